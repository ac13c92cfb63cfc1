# SPDX-License-Identifier: Apache-2.0
"""Many real agents of one site on this machine, each in a folder of its own.

They are enrolled with one command and get their first release by hand: what is tested
is what comes after. Starts are staggered, since a start costs a second of a processor.
"""

import faulthandler
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.ota.slots import Slots, open_slot
from edge_contract.enrolment import Enrolment
from tests.support.agent_home import AgentHome, await_value
from tests.support.fleet_process import ask_fleet
from tests.support.fleet_site import Site

AT_ONCE = 4


class Swarm:
    """The agents of a site.

    Args:
        site: Has a server and no agents; it closes these.
        names: Of the devices.
        config: Returns the text of a device's ``agent.yaml``.
    """

    def __init__(
        self, site: Site, names: Iterable[str], config: Callable[[str], str]
    ) -> None:
        names = list(names)
        self.site = site
        self.environment: Mapping[str, str] = {}
        output = site.folder / "enrolments"
        told = ("device", "add", *names, "-o", str(output))
        added = ask_fleet(*told, state=site.state)["devices"]
        for name in names:
            folder = site.folder / name
            folder.mkdir()
            home = AgentHome(folder, patience=site.patience)
            home.config.write_text(config(name))
            enrolment = Enrolment.from_json(Path(added[name]).read_bytes())
            enrolment.save(home.state_dir / "device.json")
            site.homes[name] = home

    @property
    def homes(self) -> Mapping[str, AgentHome]:
        """The agents by name."""
        return self.site.homes

    def install(self, bundle: Path, digest: str) -> None:
        """Have every agent serve a release."""
        for home in self.homes.values():
            file = home.folder / "new.bundle"
            shutil.copy(bundle, file)
            slots = Slots(open_slot(home.state_dir, "main"))
            slots.adopt(digest, file)
            slots.begin_trial(digest)
            slots.commit()

    def start(self) -> None:
        """Start all agents, a few at a time, until each has reached the broker."""
        self._each(self.start_one)

    def start_one(self, home: AgentHome) -> None:
        """Start one agent and wait until it has reached the broker."""
        home.start(**self.environment)
        await_connected(home)

    def stop(self) -> None:
        """Stop all agents; none may hold a message afterwards."""
        self._each(self._drain)

    def _drain(self, home: AgentHome) -> None:
        """Stop an agent; start it again while it holds what it could not send."""
        for _ in range(3):
            home.stop()
            if home.read_status()["outbox_pending"] == 0:
                return
            self.start_one(home)
            await_value(
                lambda: home.read_status()["outbox_pending"],
                lambda pending: pending <= 1,
                home.patience,
            )
        home.stop()
        assert home.read_status()["outbox_pending"] == 0

    def _each(self, act: Callable[[AgentHome], None]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(act, one) for one in self.homes.values()]:
                done.result()


def await_connected(home: AgentHome) -> None:
    """Wait until an agent has reached the broker; it must live."""

    def look() -> bool:
        assert home.process is not None
        log = home.folder / "agent.log"
        assert home.process.poll() is None, log.read_text()[-2000:]
        status = home.read_status()
        return status.get("pid") == home.process.pid and bool(status["connected"])

    await_value(look, bool, home.patience)


def allow_seconds(seconds: float) -> None:
    """Let this test take longer than the run's own watchdog would."""
    faulthandler.dump_traceback_later(
        seconds, exit=True, file=sys.__stderr__ or sys.stderr
    )
