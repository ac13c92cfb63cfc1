# SPDX-License-Identifier: Apache-2.0
"""What the demo says while it runs: one line a fact, with the seconds gone by.

Owns: the terminal, and the time that each step took. It decides nothing.
"""

from __future__ import annotations

import sys
import time

__all__ = ["Console"]


class Console:
    """Progress on a stream, and the seconds of each step."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._step_start = self._start
        self._step = ""
        self.step_seconds: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._start

    def step(self, name: str, text: str) -> None:
        """End the step before, and begin the named one."""
        self.finish_step()
        self._step, self._step_start = name, time.monotonic()
        self._write(f"\n{self._stamp()}  {text}\n")

    def finish_step(self) -> None:
        """Note how long the step in hand took."""
        if self._step:
            self.step_seconds[self._step] = time.monotonic() - self._step_start
        self._step = ""

    def say(self, text: str) -> None:
        """Print a line, or several, of the step in hand."""
        for line in text.rstrip().splitlines():
            self._write(f"{self._stamp()}    {line}\n")

    def show(self, text: str) -> None:
        """Print a block as it is, with neither time nor indent."""
        self._write(f"{text.rstrip()}\n")

    def _stamp(self) -> str:
        return f"{self.seconds:6.1f}s"

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
