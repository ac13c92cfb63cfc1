# SPDX-License-Identifier: Apache-2.0
"""A result as JSON: one form for lines, messages and batches."""

import json
from typing import Any, Final

from edge_agent.flow import Result

_DIGITS: Final = 6


def describe_result(result: Result) -> dict[str, Any]:
    """Return a result as a JSON object.

    ``label`` is there where something was decided on, ``top`` where several were,
    ``marks`` where it has any.
    """
    found: dict[str, Any] = {"id": result.id, "t_us": result.time_us}
    if result.output is None:
        found["error"] = result.error
    else:
        found["output"] = [round(float(one), _DIGITS) for one in result.output]
        found["label_index"] = int(result.output.argmax())
        if result.ranked:
            found["label"] = result.ranked[0][0]
        if len(result.ranked) > 1:
            found["top"] = [
                [name, round(score, _DIGITS)] for name, score in result.ranked
            ]
    found["digest"] = result.digest
    if result.marks:
        found["marks"] = list(result.marks)
    return found


def format_result(result: Result) -> bytes:
    """Return a result as one line of JSON."""
    return json.dumps(describe_result(result), separators=(",", ":")).encode() + b"\n"
