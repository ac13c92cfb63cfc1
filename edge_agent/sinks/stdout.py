# SPDX-License-Identifier: Apache-2.0
"""The ``stdout`` sink: one JSON line an inference, for the next program of a pipe.

Owns writing without being stuck where the reader does not read: a pipe that has room is
given no more than it takes at once. Where the reader is gone, results are dropped; the
agent goes on.
"""

import os
import select
import sys
from collections.abc import Sequence
from typing import Final

from edge_agent.errors import SinkError, SinkRefusedError
from edge_agent.flow import Result
from edge_agent.sinks.lines import format_result

PATIENCE_SECONDS: Final = 1.0


class StdoutOutlet:
    """Writes results to a file descriptor.

    Args:
        descriptor: A pipe, terminal or file; None: the standard output. It stays open.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._rest = b""  # of a line that was taken

    def put(self, results: Sequence[Result]) -> int:
        """Write results; see ``Outlet.put``.

        Raises:
            SinkError: The reader does not read.
            SinkRefusedError: The reader is gone.
        """
        self._write_rest()
        for number, one in enumerate(results, 1):
            self._rest = format_result(one)
            try:
                self._write_rest()
            except SinkRefusedError:
                raise
            except SinkError:
                return number
        return len(results)

    def close(self) -> None:
        """Do nothing: the descriptor is the caller's."""

    def _write_rest(self) -> None:
        while self._rest:
            _, ready, _ = select.select([], [self._descriptor], [], PATIENCE_SECONDS)
            if not ready:
                msg = "stdout: the reader does not read"
                raise SinkError(msg, next_step="look at the program behind the pipe")
            try:
                # A pipe that is ready takes so much without blocking (pipe(7)).
                part = self._rest[: select.PIPE_BUF]
                written = os.write(self._descriptor, part)
            except OSError as error:
                self._rest = b""
                msg = f"stdout: {error.strerror}"
                next_step = "start the program behind the pipe, and the agent, again"
                raise SinkRefusedError(msg, next_step=next_step) from error
            self._rest = self._rest[written:]
