# SPDX-License-Identifier: Apache-2.0
"""Twenty agents, a broker and a server, killed at random for minutes: books exact.

Every agent's source writes each row down before it hands it over. At the end, for each
device, feature and bin: what the server counted and what the open window holds is what
the source wrote, but for rows that were declared lost after a kill, to the unit. Acks
are dropped, connections cut and silenced, outboxes fill up and merge, and windows come
again after the server has forgotten their raw rows.
"""

import contextlib
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.stats.checkpoint import Checkpoint
from edge_contract.binning import Int64
from edge_contract.profile import ReferenceProfile
from edge_contract.varint import decode_counts
from tests.support import oracle_source
from tests.support.agent_home import ROOT, AgentHome
from tests.support.bundles import ModelRecipe, make_bundle, make_profile
from tests.support.fleet_process import ask_fleet
from tests.support.fleet_site import Site
from tests.support.mqtt_broker import Mosquitto
from tests.support.swarm import Swarm, allow_seconds, await_connected
from tests.support.wire import MqttWire, Publish, Wire

pytestmark = [pytest.mark.slow, pytest.mark.broker]

IS_SOAK = "EDGELOOP_SOAK" in os.environ  # noqa: TID251 - larger numbers, see Makefile
CHAOS_SECONDS = 1800.0 if IS_SOAK else 200.0
SEED = 20
RATE = 20
CHECKPOINT_SECONDS = 2
# A checkpoint, the second between two counts, and as much again for a busy machine.
MOST_LOST_A_KILL = RATE * 2 * (CHECKPOINT_SECONDS + 1)
PATIENCE_SECONDS = 240.0
ACKS_LOST = 0.3
REPLAYED = 200
RECIPE = ModelRecipe(observe="vector")
GROUPS = {"plain": 12, "lossy": 6, "small": 2}
NAMES = [f"{group}-{n}" for group, count in GROUPS.items() for n in range(count)]
_CONFIG = """\
state_dir: state
models:
  main:
    bundle: ../vector.bundle
    trust: [../server/keys/models.pub]
    source:
      type: oracle
      options: {{path: {path}, rate: {rate}, seed: {seed}}}
statistics: {{window: {window}, checkpoint: {checkpoint}s}}
outbox: {{max: {outbox}}}
"""


@dataclass
class Ledger:
    """What the test knows of one agent beside what the agent says."""

    kills: int = 0
    in_hand: int = 0  # rows handed over and not yet inferred when a kill came
    most_lost: int = 0


@dataclass
class Ground:
    """Everything that can be harmed."""

    swarm: Swarm
    broker: Mosquitto
    wires: dict[str, Wire]
    moments: random.Random
    seen: list[Publish] = field(default_factory=list)
    ledgers: dict[str, Ledger] = field(
        default_factory=lambda: {name: Ledger() for name in NAMES}
    )
    harm: Counter[str] = field(default_factory=Counter)
    loses_acks: bool = True

    def thief(self, packet: Publish) -> Sequence[Publish]:
        """Lose acks, and remember windows."""
        if packet.to_broker:
            if packet.topic.endswith("/up/window"):
                self.seen.append(packet)
            return [packet]
        is_ack = packet.topic.endswith("/down/ack")
        if is_ack and self.loses_acks and self.moments.random() < ACKS_LOST:
            self.harm["acks lost"] += 1
            return []
        return [packet]

    def kill_agent(self) -> None:
        name = self.moments.choice(NAMES)
        home, ledger = self.swarm.homes[name], self.ledgers[name]
        home.kill()
        counter = home.read_counter()
        handed = len(oracle_source.read_oracle(oracle(home))[0])
        gap = handed - ledger.in_hand - counter
        assert gap in {0, 1}, (name, handed, counter)
        ledger.in_hand += gap
        ledger.kills += 1
        lost = counter - read_checkpoint(home).produced
        ledger.most_lost = max(ledger.most_lost, lost)
        home.start(**self.swarm.environment)

    def kill_server(self) -> None:
        self.swarm.site.restart_server()

    def kill_broker(self) -> None:
        self.broker.stop()
        self.broker.start()

    def cut(self) -> None:
        self.wires[self.moments.choice(list(self.wires))].cut()

    def silence(self) -> None:
        self.wires[self.moments.choice(list(self.wires))].silence()

    def mend(self) -> None:
        for wire in self.wires.values():
            wire.mend()

    def rage(self, seconds: float) -> None:
        """Do harm for some time."""
        harms = {
            self.kill_agent: 12,
            self.kill_server: 1,
            self.kill_broker: 1,
            self.cut: 2,
            self.silence: 2,
            self.mend: 2,
        }
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            (harm,) = self.moments.choices([*harms], [*harms.values()])
            harm()
            self.harm[harm.__name__] += 1
            time.sleep(self.moments.uniform(0.0, 1.5))

    def fill_outboxes(self) -> int:
        """Cut the small ones off until all of them have merged; return the sums."""
        small = [one for name, one in self.swarm.homes.items() if is_small(name)]
        self.wires["small"].cut()
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(count_merged(home) for home in small):
            assert time.monotonic() < end, "no outbox fills up"
            self.kill_agent()
            time.sleep(self.moments.uniform(0.5, 2.0))
        merged = sum(count_merged(home) for home in small)
        self.wires["small"].mend()
        return merged

    def expire_and_replay(self) -> int:
        """Forget raw windows on the server, then send some of them again."""
        site = self.swarm.site
        site.server.kill()
        with contextlib.closing(sqlite3.connect(database(site))) as found, found:
            found.execute("DELETE FROM windows")
        site.restart_server()
        client = Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        again = self.moments.sample(self.seen, min(REPLAYED, len(self.seen)))
        for packet in again:
            client.publish(packet.topic, packet.payload, 1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()
        return len(again)

    def calm(self) -> None:
        """End all harm, and wait until everybody speaks with the server."""
        self.loses_acks = False
        self.mend()
        for wire in self.wires.values():
            wire.reset()  # what waits for a lost ack is sent again at a connection
        for home in self.swarm.homes.values():
            await_connected(home)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    allow_seconds(CHAOS_SECONDS + 900)
    with contextlib.ExitStack() as stack:
        broker = Mosquitto(tmp_path)
        stack.callback(broker.stop)
        broker.start()
        more = f"broker: {{mode: external, host: 127.0.0.1, port: {broker.port}}}\n"
        site = Site(tmp_path, stack, {}, patience=PATIENCE_SECONDS, more=more)
        swarm = Swarm(site, NAMES, lambda name: configure(tmp_path, name))
        plugin = oracle_source.install(tmp_path / "plugin")
        swarm.environment = {"PYTHONPATH": f"{ROOT}:{plugin}"}
        wires: dict[str, Wire] = {}
        moments = random.Random(SEED)  # noqa: S311 - a reproducible choice
        ground = Ground(swarm, broker, wires, moments)
        wires["plain"] = stack.enter_context(Wire(broker.port))
        for group in ("lossy", "small"):
            wires[group] = stack.enter_context(MqttWire(broker.port, ground.thief))
        for name, home in swarm.homes.items():
            home.reroute(broker_port=wires[name.partition("-")[0]].port)
        bundle = tmp_path / "vector.bundle"
        make_bundle(bundle, RECIPE, sign_key=site.builder_key.read_bytes())
        told = ("model", "publish", str(bundle), "--key", str(site.builder_key))
        ask_fleet(*told, state=site.state)
        swarm.start()
        yield ground


def is_small(name: str) -> bool:
    """Whether a device has a small outbox and short windows."""
    return name.startswith("small")


def configure(folder: Path, name: str) -> str:
    return _CONFIG.format(
        path=folder / name / "oracle",
        rate=RATE,
        seed=NAMES.index(name),
        window="100ms" if is_small(name) else "1s",
        checkpoint=CHECKPOINT_SECONDS,
        outbox="64KiB" if is_small(name) else "8MiB",
    )


def oracle(home: AgentHome) -> Path:
    return home.folder / "oracle"


def database(site: Site) -> Path:
    return site.state / "fleet.sqlite"


def read_checkpoint(home: AgentHome) -> Checkpoint:
    """Return the last checkpoint of an agent that does not run."""
    path = home.state_dir / "outbox.sqlite"
    query = "SELECT value FROM meta WHERE name = 'checkpoint/main'"
    with contextlib.closing(sqlite3.connect(path)) as found:
        row = found.execute(query).fetchone()
    return Checkpoint() if row is None else Checkpoint.decode(row[0])


def count_merged(home: AgentHome) -> int:
    """Return how many windows of an outbox are sums of several."""
    path = home.state_dir / "outbox.sqlite"
    query = "SELECT count(*) FROM rows WHERE covers > 0"
    with contextlib.closing(sqlite3.connect(path)) as found:
        return int(found.execute(query).fetchone()[0])


def read_counts(site: Site, name: str, size: int) -> Int64:
    """Return the server's sums of all windows of a device."""
    query = "SELECT counts FROM rollups WHERE device = ? AND level = 'all'"
    with contextlib.closing(sqlite3.connect(database(site))) as found:
        ((blob,),) = found.execute(query, (name,)).fetchall()
    return decode_counts(blob, size)


def check_device(ground: Ground, name: str, profile: ReferenceProfile) -> int:
    """Compare a device's counts with its oracle; return the rows declared lost."""
    home, ledger = ground.swarm.homes[name], ground.ledgers[name]
    _, values = oracle_source.read_oracle(oracle(home))
    checkpoint, produced = read_checkpoint(home), home.read_counter()
    shown = ground.swarm.site.ask(f"/devices/{name}")
    totals, open_window = shown["totals"], checkpoint.window
    declared = totals["lost"] + checkpoint.lost
    counted = totals["inferences"] + totals["failed"]
    counts = read_counts(ground.swarm.site, name, profile.layout.size)
    if open_window is not None:
        counted += open_window.produced
        counts = counts + open_window.statistics.counts

    assert len(values) - ledger.in_hand == produced == counted + declared
    for index, feature in enumerate(profile.features):
        column = values[:, index]
        bins = np.searchsorted(feature.edges, column[np.isfinite(column)], "right")
        written = np.bincount(bins, minlength=len(feature.edges) + 1)
        absent = written - counts[profile.layout.bins(index)]
        missing = np.isnan(column).sum() - counts[profile.layout.missing][index]
        assert min(absent.min(), missing) >= 0, (name, feature.name)
        assert absent.sum() + missing == declared + ledger.in_hand
    assert declared == 0 or ledger.kills
    assert ledger.most_lost <= MOST_LOST_A_KILL
    assert set(shown["refusals"]) == set()
    return int(declared)


def test_twenty_agents_under_fire_lose_nothing_that_is_not_declared(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm = ground.swarm
    ground.rage(CHAOS_SECONDS / 2)
    merged = ground.fill_outboxes()
    ground.rage(CHAOS_SECONDS / 2)
    ground.mend()
    replayed = ground.expire_and_replay()
    ground.calm()
    swarm.stop()
    profile = make_profile(RECIPE)
    lost = {name: check_device(ground, name, profile) for name in NAMES}
    with contextlib.closing(sqlite3.connect(database(swarm.site))) as found:
        query = "SELECT sum(duplicates), sum(windows) FROM totals"
        duplicates, windows = found.execute(query).fetchone()
    kills = sum(one.kills for one in ground.ledgers.values())
    worst = max(one.most_lost for one in ground.ledgers.values())
    with capsys.disabled():
        print(  # noqa: T201 - for people
            f"\n{dict(ground.harm)}; {windows} windows, {merged} merged, "
            f"{duplicates} came again, {replayed} of them replayed; "
            f"{kills} kills of agents lost {sum(lost.values())} rows, at most {worst}"
        )
    assert duplicates >= replayed > 0
    assert ground.harm["acks lost"] > 0
