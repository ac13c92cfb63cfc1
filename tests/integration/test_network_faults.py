# SPDX-License-Identifier: Apache-2.0
"""The network matrix: what a link, a proxy or a mirror can do to a download.

Each fault meets the whole bundle and a delta. Whatever it does, nothing wrong is
installed, the update ends or waits with a reason, and once it is over the release is
there, byte for byte. After a cut no byte is fetched twice.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import pytest

from edge_agent.ota.fetch import Download
from edge_agent.ota.machine import UpdateRecord, UpdateState
from edge_agent.ota.slots import Slots
from edge_contract.errors import EdgeError
from tests.support.certificates import make_certificate
from tests.support.faulty_server import Fault, serve_files
from tests.support.randomness import seeded
from tests.support.update_world import (
    SELFTEST,
    World,
    install,
    offer,
    open_world,
    want_by_delta,
)

CUT = 1.05  # of the size: what may be fetched where the link only breaks off
ONCE_MORE = 2.05  # where what came was of no use
SMALL = 100


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        faults: Of the first answers, in order.
        most: Bytes that may be read, of the file's; None: the update may end here.
        reason: Where it ends or waits: why, for the whole bundle.
    """

    faults: Sequence[Fault]
    most: float | None = CUT
    reason: str = ""


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


CASES: dict[str, Case] = {
    "cut before the answer": Case([Fault(raw=b"")]),
    "cut in the status line": Case([Fault(raw=b"HTTP/1.")]),
    "cut in the headers": Case([Fault(raw=b"HTTP/1.1 200 OK\r\nETag: ")]),
    "cut after the headers": Case([Fault(cut_after=0)]),
    "cut after one byte": Case([Fault(cut_after=1)]),
    "cut before the last byte": Case([Fault(cut_after=-1)]),
    "cut again and again": Case([Fault(cut_after=SMALL)] * 6),
    "cut in every range": Case([Fault(cut_after=1), *[Fault(cut_after=7)] * 6]),
    "reset in the body": Case([Fault(cut_after=SMALL, is_reset=True)]),
    "cut without an ETag": Case([Fault(cut_after=SMALL, etag="")] * 2),
    "cut with a weak ETag": Case([Fault(cut_after=SMALL, etag='W/"a"')] * 2),
    "cut and busy": Case([Fault(cut_after=SMALL), Fault(status=503)]),
    "cut of chunks": Case([Fault(cut_after=SMALL, is_chunked=True)]),
    "shorter than declared": Case([Fault(extra_length=50)]),
    "longer than declared": Case([Fault(extra_length=-50)]),
    "in chunks": Case([Fault(is_chunked=True)]),
    "endless": Case([Fault(endless=True)]),
    "endless chunks": Case([Fault(endless=True, is_chunked=True)]),
    "not HTTP": Case([Fault(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n")]),
    "an answer of headers": Case(
        [Fault(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n")]
    ),
    "a header without end": Case([Fault(raw=b"HTTP/1.1 200 " + b"x" * 100_000)]),
    "408": Case([Fault(status=408)]),
    "425": Case([Fault(status=425)]),
    "429 with patience": Case([Fault(status=429, retry_after="1")]),
    "500": Case([Fault(status=500)]),
    "a storm of 503": Case([Fault(status=503)] * 7),
    "503 with nonsense": Case([Fault(status=503, retry_after="soon")]),
    "503 with a past date": Case(
        [Fault(status=503, retry_after="Thu, 26 Nov 1998 12:00:00 GMT")]
    ),
    "200 for a range": Case(
        [Fault(cut_after=SMALL), Fault(ignore_range=True)], ONCE_MORE
    ),
    "another ETag": Case([Fault(cut_after=SMALL), Fault(etag='"b"')], ONCE_MORE),
    "a range from elsewhere": Case(
        [Fault(cut_after=SMALL), Fault(content_range="bytes 0-1/2")], ONCE_MORE
    ),
    "a range of nonsense": Case(
        [Fault(cut_after=SMALL), Fault(content_range="bytes -/*")], ONCE_MORE
    ),
    "416": Case([Fault(cut_after=SMALL), Fault(status=416)], ONCE_MORE),
    "a wrong byte in a range": Case(
        [Fault(cut_after=SMALL), Fault(flip_byte=True)], ONCE_MORE
    ),
    "drops": Case([Fault(drip=0.02)], ONCE_MORE),
    "a range that was compressed": Case(
        [Fault(cut_after=SMALL), Fault(encoding="gzip")],
        None,
        "agent.update.fetch-refused",
    ),
    "compressed": Case([Fault(encoding="br")], None, "agent.update.fetch-refused"),
    "404": Case([Fault(status=404)], None, "agent.update.fetch-refused"),
    "403": Case([Fault(status=403)], None, "agent.update.fetch-refused"),
    "410 after a cut": Case(
        [Fault(cut_after=SMALL), Fault(status=410)],
        None,
        "agent.update.fetch-refused",
    ),
    "a redirect": Case(
        [Fault(status=302, location="http://192.0.2.1/x")],
        None,
        "agent.update.fetch-refused",
    ),
    "a redirect to here": Case(
        [Fault(status=307, location="/tuf/metadata/timestamp.json")],
        None,
        "agent.update.fetch-refused",
    ),
    "204": Case([Fault(status=204)], None, "agent.update.fetch-refused"),
    "a wrong byte": Case([Fault(flip_byte=True)], None, "agent.update.trust"),
    "503 for ever": Case(
        [Fault(status=503)] * 8, None, "agent.update.fetch-interrupted"
    ),
    "503 for an hour": Case(
        [Fault(status=503, retry_after="3600")], None, "agent.update.server-busy"
    ),
}


CUTS = [name for name in CASES if name.startswith(("cut", "reset"))]
MATRIX = [
    *(("whole", name) for name in CASES),
    *(("delta", name) for name in CASES),
    *(("whole over TLS", name) for name in CUTS),
]


@dataclass(frozen=True)
class Site:
    """A device that serves one release, and a server that wants another of it."""

    world: World
    digest: str
    bundle: Path
    bytes: int  # of what is to be fetched: the bundle, or the delta
    answer: Path  # what the real self-test said

    def device(self, state_dir: Path) -> World:
        """Return a device in the same state, with a folder of its own."""
        shutil.copytree(self.world.state_dir, state_dir)
        self.world.server.faults.clear()
        return replace(self.world, state_dir=state_dir)

    def update(self, device: World) -> UpdateRecord:
        return device.update(selftest_command=lambda _: ["cat", str(self.answer)])


def make_site(way: str, folder: Path, stack: ExitStack) -> Site:
    world = stack.enter_context(open_world(folder))
    world.release(1)
    install(world)
    world.release(2)
    bundle = folder / "2.bundle"
    told = subprocess.run([*SELFTEST, bundle], check=True, capture_output=True)
    (folder / "answer.json").write_bytes(told.stdout)
    offers = [offer(world, 1, 2)] if way == "delta" else []
    digest = want_by_delta(world, 2, *offers)
    size = int(str(offers[0]["bytes"])) if offers else bundle.stat().st_size
    if way == "whole over TLS":
        pin = make_certificate(folder / "server.pem")
        server = serve_files(folder / "served", folder / "server.pem")
        world.server = stack.enter_context(server)
        world.enrolment = replace(
            world.enrolment, api_url=world.server.url, certificate_pin=pin
        )
    return Site(world, digest, bundle, size, folder / "answer.json")


@pytest.fixture(scope="module")
def sites(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Site]]:
    with ExitStack() as stack:
        yield cache(
            lambda way: make_site(way, tmp_path_factory.mktemp("network"), stack)
        )


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for real: only what is waited for is under test."""
    eager = partial(Download, sleep=lambda _: None, random=seeded(1))
    monkeypatch.setattr("edge_agent.ota.obtain.Download", eager)
    monkeypatch.setattr("edge_agent.ota.fetch.SLOW_SECONDS", 0.2)
    monkeypatch.setattr("edge_agent.ota.fetch.SLOW_BYTES", 400)


@pytest.mark.parametrize(("way", "name"), MATRIX)
def test_whatever_the_network_does(
    sites: Callable[[str], Site], way: str, name: str, tmp_path: Path
) -> None:
    site, case = sites(way), CASES[name]
    device = site.device(tmp_path / "state")
    before = Slots(device.slot_dir).active
    device.server.faults.extend(case.faults)
    reason = outcome(site, device)
    assert not device.server.faults
    # A delta that is refused, or lies, is only a shorter way: the whole is fetched.
    is_detour = way == "delta" and case.reason in {
        "agent.update.fetch-refused",
        "agent.update.trust",
    }
    assert reason == ("" if is_detour else case.reason)
    assert Slots(device.slot_dir).active == before
    if case.most is not None:
        assert device.journal.record.downloaded_bytes <= case.most * site.bytes
    if reason:
        assert not Slots(device.slot_dir).holds(site.digest)
        assert outcome(site, device) == ""
    record = device.journal.record
    assert record.is_ready
    assert record.digest == site.digest
    assert Slots(device.slot_dir).path(site.digest).read_bytes() == (
        site.bundle.read_bytes()
    )
    assert not any((device.slot_dir / "part").iterdir())


def outcome(site: Site, device: World) -> str:
    """Update, and return why that came to no release; empty where it did."""
    try:
        site.update(device)
    except EdgeError as error:
        code = error.code
    else:
        code = ""
    record = device.journal.record
    ends = {UpdateState.FAILED, UpdateState.REJECTED}
    assert (record.state in ends) == bool(code)
    assert record.is_ready == (not record.reason)
    assert code in {"", record.reason}
    return record.reason


def test_the_matrix_is_as_large_as_it_is_said_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(CASES) >= 25
    with capsys.disabled():
        sys.stdout.write(f" {len(CASES)} faults, {len(MATRIX)} cases ")
