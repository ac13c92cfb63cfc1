# SPDX-License-Identifier: Apache-2.0
"""A device in a folder: its files, and a real agent process."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.ota.slots import Slots, open_slot
from edge_agent.stats.checkpoint import Checkpoint
from edge_contract.enrolment import Enrolment
from edge_contract.window_report import WindowReport
from tests.support.bundles import ModelRecipe, make_bundle

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
_CONFIG = """\
state_dir: state
models:
  main:
    source: {{type: file, path: source.npz, rate: {rate}, sample_rate_hz: 1000, \
repeat: {repeat}, follow: {follow}}}
    sinks: [{{type: file, path: results.jsonl}}]
statistics: {{window: 64ms, checkpoint: {checkpoint}}}
update: {{trial_inferences: 20}}
"""


@dataclass(frozen=True)
class Books:
    """What the state folder of a stopped agent says of its inferences."""

    produced: int
    closed: int
    closed_windows: int
    open: int
    to_declare: int
    accounted: int


class AgentHome:
    """The folder of one device."""

    def __init__(
        self,
        folder: Path,
        *,
        rate: float = 0,
        repeat: bool = True,
        checkpoint: str = "50ms",
        command: Sequence[str] = (),
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.folder = folder
        self.command = [*(command or program())]
        self.patience = patience
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.config = folder / "agent.yaml"
        told = str(repeat).lower()
        self.config.write_text(
            _CONFIG.format(rate=rate, repeat=told, follow=told, checkpoint=checkpoint)
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def slot_dir(self) -> Path:
        """Where the releases of the slot are."""
        return self.state_dir / "slots" / "main"

    def enrol(self, port: int | None = None) -> None:
        """Enrol with a server that is not there, unless ``port`` is given."""
        closed = unused_port()
        Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(range(32)),
            epoch=1,
            tuf_root=b"{}",
            broker_host="127.0.0.1",
            broker_port=port or closed,
            api_url=f"http://127.0.0.1:{closed}",
        ).save(self.state_dir / "device.json")

    @property
    def enrolment(self) -> Enrolment:
        """What the device is enrolled as."""
        return Enrolment.from_json((self.state_dir / "device.json").read_bytes())

    def reroute(self, **addresses: Any) -> None:
        """Have the device look for its broker or its server somewhere else."""
        file, moved = self.state_dir / "device.json", self.enrolment
        file.unlink()
        replace(moved, **addresses).save(file)

    def record(self, rows: int = 400, recordings: int = 3, seed: int = 0) -> None:
        """Write recordings of normal rows."""
        random = np.random.default_rng(seed)
        x = random.normal(size=(rows * recordings, 2)).astype(np.float32)
        names = np.repeat(np.arange(recordings), rows)
        partial = self.folder / ".source.npz"
        np.savez(partial, x=x, recording=names)
        partial.replace(self.folder / "source.npz")

    def install(
        self, recipe: ModelRecipe | None = None, folder: Path | None = None
    ) -> str:
        """Put a release in the store, by way of a folder, and make it the active."""
        file = (folder or self.folder) / "new.bundle"
        digest = make_bundle(file, recipe)
        slots = Slots(open_slot(self.state_dir, "main"))
        slots.adopt(digest, file)
        slots.begin_trial(digest)
        slots.commit()
        return digest

    def start(self, **environment: str) -> None:
        """Start ``edge-agent run``, with more in its environment."""
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "run", "--config", str(self.config)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},  # noqa: TID251 - a child
                stderr=log,
            )

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._end(signal.SIGKILL, -signal.SIGKILL)

    def stop(self) -> None:
        """End the process with SIGTERM; it must leave with 0."""
        self._end(signal.SIGTERM, 0)

    def close(self) -> None:
        """End the process, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def await_produced(self, count: int) -> int:
        """Wait until the produced counter has reached ``count``."""
        return int(
            await_value(self.read_counter, lambda found: found >= count, self.patience)
        )

    def read_counter(self) -> int:
        """Return the produced counter."""
        try:
            data = (self.state_dir / "produced-main.counter").read_bytes()
        except FileNotFoundError:
            return 0
        return int.from_bytes(data, "little")

    def await_status(self, key: str, value: object) -> dict[str, Any]:
        """Wait until the status says so."""
        found: dict[str, Any] = await_value(
            self.read_status,
            lambda status: status.get(key) == value,
            self.patience,
        )
        return found

    def read_status(self) -> dict[str, Any]:
        """Return the status file, or an empty one."""
        try:
            data = (self.state_dir / "run" / "status.json").read_bytes()
        except FileNotFoundError:
            return {}
        status: dict[str, Any] = json.loads(data)
        return status

    def read_results(self) -> list[dict[str, Any]]:
        """Return what the sink wrote."""
        lines = (self.folder / "results.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def read_windows(self) -> list[WindowReport]:
        """Return the windows that the outbox holds, oldest first."""
        with sqlite3.connect(self.state_dir / "outbox.sqlite") as database:
            rows = database.execute(
                "SELECT body FROM rows WHERE kind = 'window' ORDER BY seq"
            ).fetchall()
        database.close()
        return [WindowReport.decode(body) for (body,) in rows]

    def read_books(self) -> Books:
        """Return what the state folder says; the agent must not run."""
        with sqlite3.connect(self.state_dir / "outbox.sqlite") as database:
            (data,) = database.execute(
                "SELECT value FROM meta WHERE name = 'checkpoint/main'"
            ).fetchone()
        database.close()
        checkpoint = Checkpoint.decode(data)
        windows = self.read_windows()
        return Books(
            produced=self.read_counter(),
            closed=sum(one.inferences + one.failed + one.lost for one in windows),
            closed_windows=checkpoint.closed_windows,
            open=0 if checkpoint.window is None else checkpoint.window.produced,
            to_declare=checkpoint.lost,
            accounted=checkpoint.produced,
        )

    def _end(self, number: int, code: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        found = self.process.wait(self.patience)
        self.process = None
        log = (self.folder / "agent.log").read_text()
        assert found == code, log[-2000:]


def program() -> list[str]:
    """Return the command line of the agent."""
    return [sys.executable, "-m", "edge_agent.cli"]


def unused_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def await_value(read: Any, accept: Any, patience: float = PATIENCE_SECONDS) -> Any:
    """Read until the value is accepted; fail after ``patience`` seconds."""
    end = time.monotonic() + patience
    while True:
        found = read()
        if accept(found):
            return found
        assert time.monotonic() < end, f"last found {found!r}"
        time.sleep(0.01)
