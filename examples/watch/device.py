# SPDX-License-Identifier: Apache-2.0
"""One wearer's watch: an `edge-agent` process, its files, and what it wrote.

Owns: the agent's configuration, which recordings it replays, its life and death, and
the reading of its results and status. The agent itself knows nothing of the demo.
"""

from __future__ import annotations

import json
import re
import typing
from dataclasses import dataclass
from pathlib import Path

from examples.watch import data
from examples.watch.config import find_program
from examples.watch.programs import DemoError, Document, Process, run_json, run_text

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Memory", "Watch"]

SAMPLE_BUDGET = "1MiB"

_CONFIG = """\
# Written by the demo; see configs/agent.yaml for what each key means.
state_dir: state
models:
  main:
    source: {{type: file, path: source.npz, rate: {rate}, sample_rate_hz: 50}}
    sinks: [{{type: file, path: results.jsonl}}]
statistics: {{window: 1.28s}}
samples: {{consent: true, budget: {budget}}}
update: {{trial_inferences: 30}}
"""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in bytes.

    Attributes:
        proportional: PSS: shared pages divided among those who share them.
        resident: RSS.
    """

    proportional: int
    resident: int


class Watch:
    """The agent of one wearer.

    Args:
        subject: The wearer.
        folder: The demo's folder; the device gets one of its own below it.
        rate: Frames a second; real time would be 0.78.
    """

    def __init__(self, subject: int, folder: Path, rate: float) -> None:
        self.subject = subject
        self.id = f"watch-{subject}"
        self.folder = folder / self.id
        self.folder.mkdir()
        self._config = self.folder / "agent.yaml"
        text = _CONFIG.format(rate=rate, budget=SAMPLE_BUDGET)
        self._config.write_text(text, encoding="utf-8")
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The agent's process."""
        if self._process is None:
            message = f"{self.id}: expected a started agent, found none"
            raise DemoError(message)
        return self._process

    @property
    def results_path(self) -> Path:
        """Where the agent writes one JSON line an inference."""
        return self.folder / "results.jsonl"

    def wear(self, recordings: Sequence[data.Recording]) -> None:
        """Give the watch other recordings; a running agent goes on with them."""
        data.write_rows(self.folder / "source.npz", recordings)

    def enrol(self, file: Path) -> None:
        """Install the enrolment; the agent deletes the file."""
        run_text("edge-agent", "enrol", str(file), "--config", str(self._config))

    def start(self) -> None:
        """Start the agent."""
        command = (*find_program("edge-agent"), "run", "--config", str(self._config))
        self._process = Process(self.id, command, self.folder / "agent.log")

    def kill_and_restart(self) -> None:
        """End the agent with SIGKILL wherever it is, and start it again."""
        self.process.kill()
        self.start()

    def stop(self) -> None:
        """Stop the agent if it runs."""
        if self._process is not None:
            self._process.stop()

    def read_status(self) -> Document:
        """What the agent says about itself, running or not."""
        return run_json("edge-agent", "status", "--config", str(self._config))

    def read_results(self, start: int = 0) -> list[Document]:
        """The results from a line on; a line that is still being written is left."""
        if not self.results_path.exists():
            return []
        lines = self.results_path.read_bytes().split(b"\n")[start:-1]
        return [json.loads(line) for line in lines if _is_whole(line)]

    def measure_memory(self) -> Memory:
        """The agent's memory now, from the kernel's own books."""
        path = Path("/proc") / str(self.process.pid) / "smaps_rollup"
        found = dict(re.findall(r"^(\w+):\s+(\d+) kB", path.read_text(), re.MULTILINE))
        return Memory(int(found["Pss"]) * 1024, int(found["Rss"]) * 1024)


def _is_whole(line: bytes) -> bool:
    """Whether a line was written to its end: SIGKILL may have cut one short."""
    return line.startswith(b"{") and line.endswith(b"}")
