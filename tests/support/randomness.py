# SPDX-License-Identifier: Apache-2.0
"""Jitter that is the same in every run."""

from random import Random


def seeded(seed: int) -> Random:
    """A source of jitter, never of secrets."""
    return Random(seed)  # noqa: S311
