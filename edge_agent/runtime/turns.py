# SPDX-License-Identifier: Apache-2.0
"""Turns at a model: a lock that serves its callers in the order in which they came.

Owns fairness. A plain lock goes to whoever asks first after it is free, which is the
thread that has just let go of it: under load the others wait for a hundred inferences
instead of one each.
"""

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A lock that is handed to the next in line.

    >>> turns = Turns()
    >>> with turns:
    ...     turns.acquire(0.0)
    False
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._take = self._lock.acquire
        self._let_go = self._lock.release
        self._line: deque[threading.Lock] = deque()

    @property
    def is_taken(self) -> bool:
        """Whether someone has the turn now."""
        return self._lock.locked()

    def acquire(self, timeout_seconds: float = -1.0) -> bool:
        """Wait for a turn; return whether it came within ``timeout_seconds``."""
        if not self._line and self._lock.acquire(blocking=False):
            return True
        turn = threading.Lock()
        turn.acquire()
        self._line.append(turn)
        if self._lock.acquire(blocking=False):
            # It was let go of before anyone stood in line: only its owner, now this
            # thread, hands it on. Whoever stands before this one comes first.
            self.release()
        if turn.acquire(timeout=timeout_seconds):
            return True
        try:
            self._line.remove(turn)
        except ValueError:  # it came in this very moment
            return True
        return False

    def release(self) -> None:
        """Hand the turn to the next in line, if any."""
        if not self._line:
            self._let_go()
            # Someone may have stood in line meanwhile, and found the lock taken.
            if not self._line or not self._take(blocking=False):
                return
        try:
            self._line.popleft().release()
        except IndexError:  # the last in line gave up
            self.release()

    def __enter__(self) -> None:
        if self._line or not self._take(False):  # noqa: FBT003 - the short way
            self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
