# SPDX-License-Identifier: Apache-2.0
"""One server and two agents below a folder, all real processes."""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fleet.client import open_client, read_address
from fleet.config import StateLayout
from tests.support.agent_home import PATIENCE_SECONDS, AgentHome, await_value
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.fleet_process import ServerProcess, ask_fleet, run_fleet

CONFIG = """\
ingest: {ack_interval: 200ms}
rollout: {tick: 200ms, announce_spread: 0s}
"""
ACCEPTED = ("--accept-insufficient-evidence", "a fleet of two in a test")


class Site:
    """One server and its agents below a folder.

    Args:
        folder: An empty one.
        stack: Closes it.
        agents: The command line of the agent of each device; ours where it is empty.
        rate: Frames a second.
        patience: How many seconds an agent may take for anything.
        more: Lines for the server's configuration.
    """

    def __init__(
        self,
        folder: Path,
        stack: contextlib.ExitStack,
        agents: Mapping[str, Sequence[str]] = MappingProxyType(
            {"left": (), "right": ()}
        ),
        *,
        rate: float = 200,
        patience: float = PATIENCE_SECONDS,
        more: str = "",
    ) -> None:
        self.rate = rate
        self.patience = patience
        stack.callback(self.close)
        self.homes: dict[str, AgentHome] = {}
        self.folder = folder
        self.state = folder / "server"
        done = run_fleet("init", "--json", state=self.state)
        assert done.returncode == 0, done.stderr
        self.builder_key = self.state / "keys" / "offline" / "models.pem"
        (self.state / "fleet.yaml").write_text(CONFIG + more)
        self.server = ServerProcess(self.state)
        for name, command in agents.items():
            self.homes[name] = self._add_device(name, command)

    def _add_device(self, name: str, command: Sequence[str]) -> AgentHome:
        folder = self.folder / name
        folder.mkdir()
        home = AgentHome(
            folder, rate=self.rate, command=command, patience=self.patience
        )
        output = str(folder / "enrol")
        added = ask_fleet("device", "add", name, "-o", output, state=self.state)
        file = Path(added["devices"][name])
        enrol = [*home.command, "enrol", str(file), "--config", str(home.config)]
        done = subprocess.run(enrol, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not file.exists()
        home.record()
        return home

    def publish(self, recipe: ModelRecipe) -> str:
        """Build, publish and roll out a release; return its digest."""
        path = self.folder / f"{recipe.seed}.bundle"
        digest = make_bundle(path, recipe, sign_key=self.builder_key.read_bytes())
        self.roll_out(path, recipe.name)
        return digest

    def roll_out(self, path: Path, name: str) -> None:
        """Publish a signed bundle of the model ``name`` and roll it out."""
        key = str(self.builder_key)
        release = ask_fleet(
            "model", "publish", str(path), "--key", key, state=self.state
        )
        number = str(release["release"])
        model = ("--model", name, "--release", number)
        ask_fleet(
            "rollout", "create", *model, "--canary", "1", *ACCEPTED, state=self.state
        )

    def await_serving(self, digest: str) -> None:
        """Wait until both agents serve a release."""
        for home in self.homes.values():
            await_value(
                home.read_status,
                lambda status: status.get("serving") == {"main": digest},
                self.patience,
            )

    def restart_server(self) -> None:
        """Kill the server, and start it again on its state folder."""
        self.server.kill()
        self.server = ServerProcess(self.state)

    def ask(self, path: str) -> Any:
        """Ask the server for a document, as `edge-fleet` does, without a process."""
        with open_client(read_address(StateLayout(self.state).run)) as client:
            return client.get(path)

    def totals(self, name: str) -> dict[str, Any]:
        """Return what the server counted of a device."""
        totals: dict[str, Any] = ask_fleet("device", "show", name, state=self.state)[
            "totals"
        ]
        return totals

    def check_books(self, name: str) -> None:
        """Stop an agent; what it made must be what the server counted, to the unit."""
        home = self.homes[name]
        home.stop()
        status = home.read_status()
        assert status["outbox_pending"] == 0
        totals = self.totals(name)
        counted = totals["inferences"] + totals["failed"] + totals["lost"]
        assert counted + status["open_inferences"] == status["produced"]
        assert totals["windows"] == status["windows_closed"]

    def close(self) -> None:
        """End every process."""
        for home in self.homes.values():
            home.close()
        if self.server.process.poll() is None:
            self.server.kill()
