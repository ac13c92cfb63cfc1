# SPDX-License-Identifier: Apache-2.0
"""An agent as a process while its machine fails: disk, heat, memory, clock, files.

What happens is real: a file system that is full, a sensor's file that says 90 degrees,
a plugin that leaks, a C library that tells another time. Each time the agent says what
is wrong, serves on, and accounts for every inference.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_contract.signing import generate_key
from tests.support.agent_home import ROOT, AgentHome, await_value, program
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.mqtt_broker import Rumqttd
from tests.support.server_ear import ServerEar

IS_ROOT = os.geteuid() == 0
DISK_BYTES = 8 * 1024 * 1024
# Overrides the C library's clock by as many seconds as a file says.
CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int found = real(id, now);
  FILE *file = id == CLOCK_REALTIME ? fopen(getenv("CLOCK_OFFSET"), "r") : NULL;
  long seconds = 0;
  if (file) {
    if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
    fclose(file);
  }
  return found;
}
"""
LEAK = """\
from pathlib import Path

kept = []

class Leak:
    def __init__(self, options):
        pass

    def put(self, results):
        if len(kept) < 120 and Path("leak").exists():
            kept.append(b"x" * 1024 * 1024)
        return len(results)

    def close(self):
        pass
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    # The pace of a device: 200 frames a second, a window every third of one.
    home = AgentHome(tmp_path, rate=200)
    home.enrol()
    home.record()
    yield home
    home.close()


def read_log(home: AgentHome) -> str:
    """Return what the agent has logged."""
    return (home.folder / "agent.log").read_text()


def await_log(home: AgentHome, words: str) -> None:
    """Wait until the agent has logged ``words``."""
    await_value(lambda: read_log(home), lambda text: words in text)


def has_open(home: AgentHome, name: str) -> bool:
    """Whether the agent has opened a file: an earlier one may have left it there."""
    assert home.process is not None
    with suppress(FileNotFoundError):  # a file that it closes meanwhile
        opened = Path(f"/proc/{home.process.pid}/fd").iterdir()
        return any(one.readlink().name == name for one in opened)
    return False


def await_more(home: AgentHome, count: int = 100) -> None:
    """Wait until so many more inferences were made."""
    home.await_produced(home.read_counter() + count)


def check_books(home: AgentHome) -> None:
    """Check that a stopped agent accounts for all and has lost nothing."""
    books = home.read_books()
    assert books.produced == books.accounted == books.closed + books.open
    assert [one.lost for one in home.read_windows()] == [0] * books.closed_windows


@pytest.fixture
def small_disk(home: AgentHome) -> Iterator[Path]:
    """The state folder on a file system of its own."""
    if not IS_ROOT:
        pytest.skip("needs root, to mount a file system")
    enrolment = (home.state_dir / "device.json").read_bytes()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}"]
    subprocess.run(["mount", *options, "none", str(home.state_dir)], check=True)
    (home.state_dir / "device.json").write_bytes(enrolment)
    yield home.state_dir
    home.close()
    subprocess.run(["umount", home.state_dir], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk has no room."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))


@pytest.mark.slow
def test_a_disk_without_room_is_told_of_and_loses_nothing(
    home: AgentHome, small_disk: Path
) -> None:
    # Made on that disk: the store takes a file over by its name.
    home.install(folder=small_disk)
    home.start()
    home.await_produced(100)
    ballast = small_disk / "ballast"
    fill(ballast)
    await_log(home, "closed windows wait in memory")
    await_more(home)
    ballast.unlink()
    closed = home.read_status().get("windows_closed", 0)
    await_value(home.read_status, lambda one: one.get("windows_closed", 0) > closed + 5)
    home.stop()

    check_books(home)
    assert home.read_status()["windows_waiting"] == 0


def flip(path: Path) -> None:
    """Change one bit of the model in a bundle."""
    data = bytearray(path.read_bytes())
    data[data.index(b"TFL3") + 40] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_damaged_file_serves_on_from_memory_and_not_after_a_start(
    home: AgentHome, damage: Callable[[Path], None]
) -> None:
    before = home.install()
    damaged = home.install(ModelRecipe(seed=1))
    home.start()
    home.await_produced(50)
    damage(home.slot_dir / "store" / damaged / "bundle.bundle")
    await_more(home)
    assert home.read_status()["serving"] == {"main": damaged}
    home.stop()
    home.start()
    await_log(home, f"release {damaged[:12]} cannot serve: ")
    await_more(home)
    home.stop()

    assert home.read_status()["serving"] == {"main": before}
    assert home.read_status()["failed"] == 0
    check_books(home)


@pytest.mark.slow
@pytest.mark.skipif(not IS_ROOT, reason="needs root, to lay over /sys/class/thermal")
def test_every_limit_acts_and_the_agent_serves_on(home: AgentHome) -> None:
    zone = home.folder / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("91000\n")
    private, public = generate_key()
    (home.folder / "builder.pub").write_bytes(public)
    shadow = home.folder / "shadow.bundle"
    make_bundle(shadow, ModelRecipe(seed=2), sign_key=private)
    # Faster than a device, and not faster than a disk takes the windows.
    text = home.config.read_text().replace("rate: 200", "rate: 1000")
    text = text.replace(
        "    sinks:",
        "    shadow: {bundle: shadow.bundle, cpu: 50%}\n"
        "    trust: [builder.pub]\n    sinks:",
    )
    limits = "{memory: 32MiB, cpu: 2%, temperature: 80.0, disk: 16MiB}"
    home.config.write_text(f"{text}limits: {limits}\n")
    serving = home.install()
    unnamed = home.slot_dir / "store" / ("f" * 64)
    unnamed.mkdir()
    (unnamed / "bundle.bundle").write_bytes(bytes(20 * 1024**2))
    laid = 'mount --bind "$0" /sys/class/thermal && exec "$@"'
    home.command = ["unshare", "--mount", "sh", "-c", laid, str(zone.parent)]
    home.command += program()
    home.start()
    for one in ("memory", "cpu", "temperature", "disk"):
        await_log(home, f"limit.{one}: {one} is above its limit")
    await_value(unnamed.exists, lambda found: not found)
    await_more(home)
    assert home.read_status()["slots"]["main"]["shadow"]["is_resting"]
    (zone / "temp").write_text("60000\n")
    await_log(home, "limit.temperature: temperature is below its limit again")
    home.stop()

    assert home.read_status()["serving"] == {"main": serving}
    assert "starts anew" not in read_log(home)  # it is large, and has not grown
    check_books(home)


@pytest.mark.slow
def test_an_agent_that_has_grown_starts_anew_and_loses_nothing(
    home: AgentHome,
) -> None:
    (home.folder / "leak.py").write_text(LEAK)
    distribution = home.folder / "leak-1.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Name: leak\nVersion: 1\n")
    (distribution / "entry_points.txt").write_text(
        "[edgeloop.sinks]\nleak = leak:Leak\n"
    )
    text = home.config.read_text()
    text = text.replace("{type: file, path: results.jsonl}", "{type: leak}")
    home.config.write_text(f"{text}limits: {{memory: 100MiB}}\n")
    home.install()
    home.start(PYTHONPATH=f"{ROOT}:{home.folder}")
    await_more(home)
    time.sleep(12)  # until it has settled
    (home.folder / "leak").touch()
    await_log(home, "limit.restart: memory has grown: the agent starts anew")
    await_log(home, "stopped after")
    await_more(home)
    home.stop()

    check_books(home)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler of C")
def test_a_clock_that_jumps_changes_no_count(home: AgentHome) -> None:
    source, library = home.folder / "clock.c", home.folder / "clock.so"
    offset = home.folder / "offset"
    source.write_text(CLOCK)
    options = ["-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(["cc", *options], check=True)
    offset.write_text("0")
    home.install()
    home.start(LD_PRELOAD=str(library), CLOCK_OFFSET=str(offset))
    home.await_produced(100)
    for days in (1, -400, 4000, 0):
        offset.write_text(str(days * 86_400))
        now_us = SystemClock().wall_us() + days * 86_400_000_000
        await_value(
            home.read_status,
            lambda one, now_us=now_us: abs(one.get("time_us", 0) - now_us) < 60e6,
        )
        await_more(home)
    home.stop()

    assert home.read_status()["failed"] == 0
    check_books(home)


@pytest.mark.slow
def test_a_broker_that_is_away_for_long_misses_no_window(home: AgentHome) -> None:
    broker = Rumqttd(home.folder)
    broker.start()
    home.reroute(broker_port=broker.port)
    home.install()
    home.start()
    home.await_status("connected", value=True)
    broker.stop()
    home.await_status("connected", value=False)
    await_more(home, 500)
    broker.start()
    ear = ServerEar(home.enrolment)
    ear.start()
    try:
        home.await_status("connected", value=True)
        held = {one.seq: one for one in home.read_windows()}
        ear.wait_for(lambda one: held.keys() <= one.messages.keys())
        home.stop()
    finally:
        ear.stop()
        broker.stop()

    # Each came as it was written, and none is deleted before the server has said so.
    heard = [ear.messages[seq] for seq in held]
    assert heard == list(held.values())
    assert held.keys() <= {one.seq for one in home.read_windows()}
    check_books(home)


@pytest.mark.slow
def test_a_stop_is_clean_from_the_first_line_of_code_on(home: AgentHome) -> None:
    home.install()
    codes = []
    for step in range(6):
        home.start()
        assert home.process is not None
        time.sleep(step * 0.1)
        home.process.send_signal(signal.SIGTERM)
        codes.append(home.process.wait(60))
        home.process = None
    home.start()
    # It has begun to open things, and does not serve yet.
    await_value(lambda: has_open(home, "outbox.sqlite"), bool)
    home.stop()

    # Before the interpreter runs a line of ours nothing is open, and the signal ends
    # it: a clean end for systemd too (SuccessExitStatus=).
    assert set(codes) <= {0, -signal.SIGTERM}
    assert "Traceback" not in read_log(home)
    home.start()
    await_more(home, 50)
    home.stop()
    check_books(home)
