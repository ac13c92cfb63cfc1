# SPDX-License-Identifier: Apache-2.0
"""Running the product's programs as a user's script would: no shell, no imports.

Owns: one short-lived command and its answer, and one long-lived process and its end.
Every process that is started here is ended here, by its own handle.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import typing

from examples.watch.config import child_environment, find_program

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = [
    "DemoError",
    "Document",
    "Process",
    "run_json",
    "run_program",
    "run_text",
    "wait_until",
]

Document = dict[str, typing.Any]

_T = typing.TypeVar("_T")

_COMMAND_SECONDS = 120.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.5
_LOG_LINES = 15


class DemoError(Exception):
    """A command failed, or something did not come about in time."""


def run_text(name: str, *arguments: str, timeout_seconds: float = 120.0) -> str:
    """Run one of the three programs; return what it printed.

    Raises:
        DemoError: If it fails, with its own words.
    """
    return run_program((*find_program(name), *arguments), timeout_seconds)


def run_json(name: str, *arguments: str, timeout_seconds: float = 120.0) -> Document:
    """Run one of the three programs with `--json`; return its document."""
    text = run_text(name, *arguments, "--json", timeout_seconds=timeout_seconds)
    document: Document = json.loads(text)
    return document


def run_program(
    command: Sequence[str], timeout_seconds: float = _COMMAND_SECONDS
) -> str:
    """Run a command to its end; return its standard output.

    Raises:
        DemoError: If it fails or takes too long.
    """
    words = " ".join(command[:6])
    try:
        done = subprocess.run(  # noqa: S603 - our own programs, no shell
            command,
            capture_output=True,
            check=False,
            encoding="utf-8",
            env=child_environment(),
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as exc:
        message = f"`{words}`: expected an end within {timeout_seconds:.0f} s"
        raise DemoError(message) from exc
    if done.returncode != 0:
        said = _last_lines(done.stderr or done.stdout)
        message = f"`{words}`: expected exit code 0, found {done.returncode}:\n{said}"
        raise DemoError(message)
    return done.stdout


class Process:
    """A program that runs until it is told to stop; its output goes to a file.

    Args:
        name: What messages call it.
        command: The command line.
        log: Where its output is appended.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as stream:
            self._popen = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=child_environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            DemoError: If it has, with the end of its log.
        """
        if self._popen.poll() is not None:
            said = _last_lines(self.log.read_text(encoding="utf-8", errors="replace"))
            code = self._popen.returncode
            message = f"{self.name} ended with exit code {code}; its log ends:\n{said}"
            raise DemoError(message)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, nothing flushed."""
        self._popen.kill()
        self._popen.wait(_STOP_SECONDS)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once; `stop` waits."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code; SIGKILL if it will not go."""
        self.ask_to_stop()
        try:
            return self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.returncode


def wait_until(
    look: Callable[[], _T | None],
    *,
    what: str,
    timeout_seconds: float,
    guards: Sequence[Process] = (),
) -> _T:
    """Look twice a second until there is something; return it.

    Args:
        look: Returns None as long as there is nothing.
        what: Says in an error what was waited for.
        timeout_seconds: How long to wait.
        guards: Processes that must live while we wait.

    Raises:
        DemoError: If the time is over or a guard has ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = look()
        if found is not None:
            return found
        for guard in guards:
            guard.check()
        if time.monotonic() >= deadline:
            message = f"expected {what} within {timeout_seconds:.0f} s, and it was not"
            raise DemoError(message)
        time.sleep(_POLL_SECONDS)


def _last_lines(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_LOG_LINES:])
