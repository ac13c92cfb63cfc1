# SPDX-License-Identifier: Apache-2.0
"""Running one program with limits.

Owns the child process: no shell, a minimal environment, its own process group, output
into a log file, a timeout. It knows neither runs nor the database.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.config import minimal_environment

_TERM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended; ``reason`` is empty when it succeeded."""

    exit_code: int | None
    reason: str


class RunningProgram:
    """A program that runs in ``folder``.

    Args:
        command: The program and its arguments.
        folder: Its working folder; ``EDGELOOP_RUN`` names it too.
        log: File for its output.

    Raises:
        OSError: The program does not start.
    """

    def __init__(self, command: Sequence[str], folder: Path, log: Path) -> None:
        environment = minimal_environment() | {"EDGELOOP_RUN": str(folder)}
        self._cancelled = threading.Event()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(  # noqa: S603 - argv from the config file
                list(command),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout_seconds: float) -> Ending:
        """Wait for the end; a program that takes longer is ended with its children."""
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._end_group()
            return Ending(None, f"took longer than {timeout_seconds:g} s")
        if self._cancelled.is_set():
            return Ending(None, "the server was stopped")
        if code:
            return Ending(code, f"exit code {code}")
        return Ending(0, "")

    def cancel(self) -> None:
        """End the program with its children; ``wait`` then says so."""
        self._cancelled.set()
        self._end_group()

    def _end_group(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(_TERM_SECONDS)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
