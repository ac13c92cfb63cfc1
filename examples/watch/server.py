# SPDX-License-Identifier: Apache-2.0
"""The fleet's server as the demo uses it: `edge-fleet`, and nothing else.

Owns: the state folder's configuration, the serving process, and the verbs that the
loop needs. What a verb answers is the server's contract.
"""

from __future__ import annotations

import json
import shutil
import sys
import typing
from pathlib import Path

from examples.watch.config import REPOSITORY, find_program
from examples.watch.programs import (
    DemoError,
    Document,
    Process,
    run_json,
    wait_until,
)

__all__ = ["FleetServer", "Release"]

_START_SECONDS = 60.0
_RETRAIN_SECONDS = 150.0

_CONFIG = """\
# The demo's fleet: as by default, only less patient.
ingest: {{ack_interval: 2s}}
rollout: {{tick: 500ms, announce_spread: 1s}}
drift: {{tick: 1s}}
pipelines:
  retrain:
    command: {command}
    timeout: 3m
"""


class Release(typing.NamedTuple):
    """A published model."""

    number: int
    digest: str


class FleetServer:
    """One `edge-fleet serve` on its state folder.

    Args:
        folder: The demo's folder; the state goes below it.
    """

    def __init__(self, folder: Path) -> None:
        self._state = folder / "server"
        self._log = folder / "server.log"
        self._process: Process | None = None
        self.builder_key = ""
        self.builder_public = ""

    @property
    def process(self) -> Process:
        """The serving process."""
        if self._process is None:
            message = "edge-fleet: expected a started server, found none"
            raise DemoError(message)
        return self._process

    def init(self) -> None:
        """Make the state folder: keys, database, TUF repository, configuration."""
        self._state.mkdir()
        retrain = [
            shutil.which("env") or "/usr/bin/env",
            f"PYTHONPATH={REPOSITORY}",
            "TF_CPP_MIN_LOG_LEVEL=3",
            sys.executable,
            "-m",
            "examples.watch.retrain",
        ]
        text = _CONFIG.format(command=json.dumps(retrain))
        (self._state / "fleet.yaml").write_text(text, encoding="utf-8")
        made = self.ask("init")
        self.builder_key = str(made["builder_key"])
        self.builder_public = str(made["builder_public"])

    def start(self) -> str:
        """Serve; return the dashboard's address once it answers."""
        command = (*find_program("edge-fleet"), "serve", "--state", str(self._state))
        self._process = Process("edge-fleet serve", command, self._log)
        run_file = self._state / "run.json"

        def read_address() -> str | None:
            if not run_file.exists():
                return None
            return str(json.loads(run_file.read_text("utf-8"))["dashboard_url"])

        return wait_until(
            read_address,
            what="the server's address",
            timeout_seconds=_START_SECONDS,
            guards=(self._process,),
        )

    def stop(self) -> None:
        """Stop the server if it runs."""
        if self._process is not None:
            self._process.stop()

    def ask(self, *words: str, timeout_seconds: float = 120.0) -> Document:
        """Run one verb of `edge-fleet` with `--json`."""
        return run_json(
            "edge-fleet",
            *words,
            "--state",
            str(self._state),
            timeout_seconds=timeout_seconds,
        )

    def add_devices(self, ids: tuple[str, ...], folder: Path) -> dict[str, Path]:
        """Add devices; return the enrolment file of each."""
        self.ask("device", "add", *ids, "--tag", "demo=watch", "-o", str(folder))
        return {one: folder / f"{one}.enrol.json" for one in ids}

    def list_devices(self) -> dict[str, Document]:
        """The devices with what they serve and their totals."""
        return {one["id"]: one for one in self.ask("device", "list")["devices"]}

    def publish(self, bundle: Path) -> Release:
        """Publish a bundle with the builder's key."""
        done = self.ask("model", "publish", str(bundle), "--key", self.builder_key)
        return Release(int(done["release"]), str(done["digest"]))

    def roll_out(self, release: Release, accepted: str) -> str:
        """Create a rollout with one canary; return its id."""
        done = self.ask(
            "rollout",
            "create",
            "--model",
            "watch",
            "--release",
            str(release.number),
            "--canary",
            "1",
            "--accept-insufficient-evidence",
            accepted,
        )
        return str(done["id"])

    def show_rollout(self, rollout: str) -> Document:
        """A rollout with its phases and devices."""
        return self.ask("rollout", "show", rollout)

    def list_open_verdicts(self) -> list[Document]:
        """The verdicts that are open now."""
        return list(self.ask("drift", "list")["verdicts"])

    def list_verdicts(self, device: str) -> list[Document]:
        """Every verdict that a device ever had, the newest first."""
        return list(self.ask("drift", "show", device)["verdicts"])

    def request_samples(self, devices: tuple[str, ...]) -> str:
        """Ask devices for the labelled head of their recordings; return the id."""
        done = self.ask("sample", "request", *devices, "--fraction", "0.3")
        return str(done["request"])

    def list_samples(self, request: str) -> list[Document]:
        """What each device sent for a request."""
        listed = self.ask("sample", "list")["requests"]
        return [
            dict(target)
            for one in listed
            if one["id"] == request
            for target in one["devices"]
        ]

    def run_retraining(self, request: str) -> Document:
        """Run the retrain pipeline on the samples of a request, to its end."""
        words = ("pipeline", "run", "retrain", "--samples", request)
        return self.ask(*words, timeout_seconds=_RETRAIN_SECONDS)

    def find_run_folder(self, run: Document) -> Path:
        """Where a pipeline run left its files."""
        return Path(str(run["folder"]))
