# SPDX-License-Identifier: Apache-2.0
"""Several models without a fleet: real processes, files and service manager."""

import json
import resource
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_contract.signing import generate_key
from tests.support.agent_home import AgentHome, await_value, program, unused_port
from tests.support.bundles import ModelRecipe, damage_model, make_bundle
from tests.support.mqtt_broker import Rumqttd

GREEDY = (759, 127)  # see test_probe
FILE = """\
state_dir: state
models:
  one:
    bundle: one.bundle
    trust: [builder.pub]
    source: {type: file, path: source.npz, rate: 200, sample_rate_hz: 1000}
    sinks: [{type: file, path: one.jsonl}]
    shadow: {bundle: two.bundle, cpu: 50%}
  two:
    bundle: two.bundle
    trust: [builder.pub]
    source: {type: file, path: source.npz, rate: 100, sample_rate_hz: 1000}
  asked: {bundle: two.bundle, trust: [builder.pub]}
statistics: {window: 64ms, checkpoint: 50ms}
update: {trial_inferences: 20}
limits: {memory: 1GiB}
"""


class LonelyHome(AgentHome):
    """A device with three models of its own and no fleet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config.write_text(FILE)
        self.private, public = generate_key()
        (folder / "builder.pub").write_bytes(public)
        self.record()
        self.one = self.build("one.bundle", 0)
        self.two = self.build("two.bundle", 1)

    def build(self, name: str, seed: int, **recipe: Any) -> str:
        """Write a signed bundle as a whole."""
        partial = self.folder / ".partial"
        made = ModelRecipe(seed=seed, **recipe)
        digest = make_bundle(partial, made, sign_key=self.private)
        partial.replace(self.folder / name)
        return digest

    def slot(self, name: str) -> dict[str, Any]:
        """Return the status of a slot."""
        status = self.read_status()
        # What an agent before this one left behind is not what is asked for.
        if self.process is not None and status.get("pid") != self.process.pid:
            return {}
        found: dict[str, Any] = status.get("slots", {}).get(name, {})
        return found

    def run(self, *verb: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb to its end."""
        return subprocess.run(
            [*program(), *verb, "--config", str(self.config)],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[LonelyHome]:
    home = LonelyHome(tmp_path)
    yield home
    home.close()


@pytest.mark.slow
def test_three_models_serve_alone_and_each_keeps_its_books(home: LonelyHome) -> None:
    home.start()
    await_value(lambda: home.slot("one").get("produced", 0), lambda n: n > 100)
    await_value(lambda: home.slot("two").get("produced", 0), lambda n: n > 50)
    shadow = await_value(
        lambda: (home.slot("one").get("shadow") or {}).get("inferences", 0),
        lambda n: n > 20,
    )
    home.stop()

    status = home.read_status()
    assert status["serving"] == {"one": home.one, "two": home.two, "asked": home.two}
    assert (status["device"], status["connected"]) == (None, False)
    slots = status["slots"]
    assert status["produced"] == sum(one["produced"] for one in slots.values())
    assert slots["asked"]["produced"] == 0
    for name in ("one", "two"):
        counter = home.state_dir / f"produced-{name}.counter"
        assert int.from_bytes(counter.read_bytes(), "little") == slots[name]["produced"]
    windows = home.read_windows()
    assert len(windows) == status["windows_closed"] > 0
    counted = sum(one.inferences + one.failed + one.lost for one in windows)
    assert counted + status["open_inferences"] == status["produced"]
    assert shadow > 20
    assert slots["one"]["shadow"]["digest"] == home.two


@pytest.mark.slow
def test_a_replaced_file_is_tried_and_taken_over(home: LonelyHome) -> None:
    home.start()
    await_value(lambda: home.slot("one").get("digest"), lambda d: d == home.one)
    new = home.build("one.bundle", 2)
    await_value(lambda: home.slot("one").get("digest"), lambda d: d == new)
    await_value(lambda: home.slot("one").get("trial", ""), lambda one: one is None)
    home.stop()
    home.start()
    await_value(lambda: home.slot("one").get("digest"), lambda d: d == new)
    home.stop()

    assert home.read_status()["failed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["unsigned", "other key", "greedy", "half a file"])
def test_a_file_that_must_not_serve_changes_nothing(
    home: LonelyHome, wrong: str
) -> None:
    home.start()
    await_value(lambda: home.slot("one").get("digest"), lambda d: d == home.one)
    partial, target = home.folder / ".partial", home.folder / "one.bundle"
    key = {"unsigned": None, "other key": generate_key()[0]}.get(wrong, home.private)
    make_bundle(partial, ModelRecipe(seed=3), sign_key=key)
    if wrong == "greedy":
        source = home.folder / ".source"
        shutil.copy(partial, source)
        damage_model(source, partial, *GREEDY, sign_key=key)
    if wrong == "half a file":
        partial.write_bytes(partial.read_bytes()[:500])
    partial.replace(target)
    log = home.folder / "agent.log"
    await_value(log.read_text, lambda text: "model.refused" in text)
    before = home.slot("one")["produced"]
    await_value(lambda: home.slot("one").get("produced", 0), lambda n: n > before + 50)
    home.stop()

    assert home.read_status()["serving"]["one"] == home.one
    assert home.read_status()["failed"] == 0


@pytest.mark.slow
def test_a_full_disk_stops_no_inference_and_loses_no_window(home: LonelyHome) -> None:
    home.start()
    await_value(lambda: home.slot("one").get("produced", 0), lambda n: n > 50)
    assert home.process is not None
    counter = home.state_dir / "produced-one.counter"

    def produced() -> int:
        return int.from_bytes(counter.read_bytes(), "little")

    # No file may grow or be written beyond its first byte: a disk that is full.
    free = resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE, (1, free[1]))
    full_at = produced()
    await_value(produced, lambda n: n > full_at + 200)
    resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE, free)
    before = home.slot("one")["windows_closed"]
    await_value(lambda: home.slot("one")["windows_closed"], lambda n: n > before)
    home.stop()

    status, windows = home.read_status(), home.read_windows()
    counted = sum(one.inferences + one.failed + one.lost for one in windows)
    assert counted + status["open_inferences"] == status["produced"]
    assert [one.lost for one in windows] == [0] * len(windows)
    assert status["windows_waiting"] == 0


@pytest.mark.slow
def test_the_service_manager_hears_ready_status_watchdog_and_stopping(
    home: LonelyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        address = home.folder / "notify"
        ear.bind(str(address))
        ear.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        home.start()
        heard: list[str] = []

        def hear(until: str) -> None:
            while not heard or not heard[-1].startswith(until):
                heard.append(ear.recv(4096).decode())

        hear("READY=1")
        assert [one for one in heard if one.startswith("WATCHDOG")] == []
        hear("WATCHDOG=1")
        hear("STATUS=one: toy@")
        assert "two: toy@" in heard[-1]
        assert home.process is not None
        home.process.send_signal(signal.SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")
        home.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert home.process.wait(60) == 0
        home.process = None


@pytest.mark.slow
def test_a_support_dump_holds_no_secret(home: LonelyHome, tmp_path: Path) -> None:
    home.enrol()
    key = bytes(range(32))
    home.config.write_text(FILE + "log: {level: '${PLANTED}'}\n")
    done = subprocess.run(
        [*program(), "support-dump", "--config", str(home.config), "-o", "d.tar.gz"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PLANTED": "info", "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "d.tar.gz") as archive:
        names = [one.name for one in archive.getmembers()]
        streams = [archive.extractfile(one) for one in archive.getmembers()]
        text = b"".join(one.read() for one in streams if one is not None)

    assert "support/configuration.json" in names
    assert not [one for one in names if "device.json" in one or "outbox.sqlite" in one]
    device = json.loads((home.state_dir / "device.json").read_text())
    secrets = [key, key.hex().encode(), str(device["key"]).encode()]
    assert [one for one in secrets if one in text] == []
    assert b"${PLANTED}" in text
    assert (tmp_path / "d.tar.gz").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_bundle_from_a_stick_is_verified_and_waits(home: LonelyHome) -> None:
    home.enrol()
    home.config.write_text("state_dir: state\nmodels: {main: {trust: [builder.pub]}}")
    stick = home.folder / "stick"
    stick.mkdir()
    assert (
        "expected one file *.bundle, found none"
        in home.run("bundle", "import", str(stick)).stderr
    )
    make_bundle(stick / "a.bundle", ModelRecipe(seed=4))
    refused = home.run("bundle", "import", str(stick))
    assert (refused.returncode, "it is unsigned" in refused.stderr) == (3, True)
    digest = make_bundle(stick / "a.bundle", ModelRecipe(seed=4), sign_key=home.private)
    taken = home.run("bundle", "import", str(stick), "--json")
    assert taken.returncode == 0, taken.stderr
    record = json.loads(taken.stdout)
    assert (record["state"], record["tested"], record["digest"]) == (
        "SELFTEST",
        True,
        digest,
    )
    home.config.write_text(
        "state_dir: state\nupdate: {trial_inferences: 5}\nmodels: {main: {trust: "
        "[builder.pub], source: {type: file, path: source.npz, rate: 100}}}"
    )
    home.start()
    await_value(lambda: home.slot("main").get("digest"), lambda d: d == digest)
    await_value(lambda: home.slot("main").get("trial", ""), lambda one: one is None)
    home.stop()
    slots = json.loads((home.slot_dir / "slots.json").read_text())
    assert (slots["active"], slots["trial"]) == (digest, None)


def test_a_slot_without_a_file_needs_a_fleet(home: LonelyHome) -> None:
    text = FILE.replace("  asked: {", "  fleet: {}\n  asked: {")
    home.config.write_text(text)
    done = home.run("run")

    assert done.returncode == 1
    assert "Next: run `edge-agent enrol FILE`" in done.stderr


def test_what_a_check_finds_has_a_next_step(home: LonelyHome) -> None:
    (home.folder / "two.bundle").unlink()
    done = home.run("check", "--json")

    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["models.one.model"]["ok"]
    assert not found["models.two.model"]["ok"]
    assert found["broker"]["detail"] == "none: nothing is sent"
    assert [name for name, one in found.items() if not one["detail"]] == []
    assert [
        one for one in found.values() if not one["ok"] and not one["next_step"]
    ] == []


def test_a_check_visits_whom_sources_and_sinks_talk_to(
    home: LonelyHome, tmp_path: Path
) -> None:
    broker, nobody = Rumqttd(tmp_path), unused_port()
    broker.start()
    flows = (
        "  {name}: {{bundle: one.bundle, trust: [builder.pub],\n"
        "    source: {{type: mqtt, topics: [a], port: {port}}},\n"
        "    sinks: [{{type: mqtt, topic: b, port: {port}}}, {{type: webhook, "
        "url: 'http://127.0.0.1:{port}/x'}}]}}\n"
    )
    home.config.write_text(
        "state_dir: state\nmodels:\n"
        + flows.format(name="there", port=broker.port)
        + flows.format(name="gone", port=nobody)
    )
    try:
        done = home.run("check", "--json")
    finally:
        broker.stop()

    found = {one["name"]: one for one in json.loads(done.stdout)}
    there, gone = f"127.0.0.1:{broker.port}", f"127.0.0.1:{nobody}"
    answers = f"broker {there} answers"
    assert found["models.there.source"]["detail"] == answers
    sinks = found["models.there.sinks"]["detail"]
    assert sinks == f"{answers}, webhook {there} answers"
    for name in ("models.gone.source", "models.gone.sinks"):
        assert not found[name]["ok"]
        assert found[name]["detail"].startswith(f"broker {gone}: ")
        assert found[name]["next_step"].startswith("check that it runs")


@pytest.mark.slow
def test_the_service_answers_from_the_slots_and_shows_metrics(home: LonelyHome) -> None:
    path = home.folder / "agent.sock"
    home.config.write_text(FILE + "service: {unix: agent.sock}\n")
    home.start()
    await_value(path.exists, bool)
    await_value(lambda: home.slot("one").get("produced", 0), lambda n: n > 20)

    def get(target: str) -> bytes:
        with closing(socket.socket(socket.AF_UNIX)) as stream:
            stream.settimeout(30)
            stream.connect(str(path))
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            stream.sendall(f"{head}\r\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b""))

    assert b'edge_agent_inferences_total{slot="one"}' in get("/metrics")
    assert home.two.encode() in get("/edge/v1/status")
    assert b"200 OK" in get("/v2/models/asked/ready").splitlines()[0]
    home.stop()

    assert not path.exists()
