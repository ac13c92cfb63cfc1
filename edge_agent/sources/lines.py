# SPDX-License-Identifier: Apache-2.0
"""Lines from a file descriptor, one at a time, with bounds on time and length.

Owns waiting without being stuck: ``close`` from another thread wakes up a waiting
``read``. A line that is too long is passed over up to its end. The last line may lack
its line break. The descriptor itself stays open: it is the caller's.
"""

import os
import select
import threading
from collections import deque
from typing import Final

from edge_agent.errors import SourceError

_PART: Final = 65536


class LineReader:
    """Reads lines.

    Args:
        descriptor: What to read: a pipe, a terminal, a socket or a file.
        max_bytes: Of one line, without its line break.
    """

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._partial = bytearray()
        self._is_skipping = False
        self._is_ended = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._woken, self._wake = os.pipe()

    @property
    def is_exhausted(self) -> bool:
        """Whether there is no line left, and none will come."""
        return self._is_ended and not self._lines

    def read(self, timeout_seconds: float) -> bytes | None:
        """Return the next line without its line break; None: none came in time.

        Raises:
            SourceError: A line is too long; it is passed over.
        """
        with self._lock:
            if not (self._lines or self._is_ended or self._is_closed):
                self._fill(timeout_seconds)
            return self._lines.popleft() if self._lines else None

    def close(self) -> None:
        """Wake up a waiting ``read``; nothing more is read."""
        if self._is_closed:
            return
        self._is_closed = True
        os.write(self._wake, b"\0")
        with self._lock:
            os.close(self._wake)
            os.close(self._woken)

    def _fill(self, timeout_seconds: float) -> None:
        waiting = [self._descriptor, self._woken]
        ready, _, _ = select.select(waiting, [], [], timeout_seconds)
        if self._descriptor not in ready:
            return
        try:
            data = os.read(self._descriptor, _PART)
        except BlockingIOError:
            return
        if not data:
            self._is_ended = True
            if self._partial and not self._is_skipping:
                self._lines.append(bytes(self._partial))
            self._partial.clear()
            return
        *whole, rest = data.split(b"\n")
        is_long = False
        for part in whole:
            is_long |= self._append(part)
            if not self._is_skipping:
                self._lines.append(bytes(self._partial))
            self._partial.clear()
            self._is_skipping = False
        is_long |= self._append(rest)
        if is_long:
            msg = f"line: expected at most {self._max_bytes} bytes, found more"
            raise SourceError(msg, next_step="send shorter lines, or raise max_line")

    def _append(self, part: bytes) -> bool:
        """Add to the line in hand; return whether it has become too long just now."""
        if self._is_skipping:
            return False
        if len(self._partial) + len(part) > self._max_bytes:
            self._partial.clear()
            self._is_skipping = True
            return True
        self._partial += part
        return False
