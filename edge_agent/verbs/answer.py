# SPDX-License-Identifier: Apache-2.0
"""What a verb answers, before it is printed."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One document for programs, the same as text for people, and the exit code."""

    document: Any
    text: str
    exit_code: int = 0
