# SPDX-License-Identifier: Apache-2.0
"""The clock seam: the only place in the agent that asks what time it is.

Owns ``Clock`` and the system's implementation. It formats nothing and sleeps never.
"""

import ctypes
import time
from typing import Final, Protocol

_TIMEX_BYTES: Final = 512  # struct timex is 208 bytes at most; room to spare
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised


class Clock(Protocol):
    """Wall clock, monotonic clock, and how far the first is to be believed."""

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC."""

    def monotonic_us(self) -> int:
        """Return microseconds of a clock that never goes back."""

    def is_synced(self) -> bool:
        """Return whether the kernel holds the wall clock synchronised."""


class SystemClock:
    """The clocks of the operating system."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._adjtimex = getattr(library, "adjtimex", None)

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        """Return microseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns() // 1000

    def is_synced(self) -> bool:
        """Return what ``adjtimex`` says; False where it cannot be asked."""
        if self._adjtimex is None:
            return False
        state = self._adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return state not in {-1, _TIME_ERROR}
