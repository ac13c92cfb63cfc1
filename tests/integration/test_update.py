# SPDX-License-Identifier: Apache-2.0
"""The update subprocess against a real TUF repository over HTTP with faults."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.access import HttpAccess
from edge_agent.errors import LinkError, UpdateError, UpdateTrustError
from edge_agent.ota.fetch import (
    Download,
    PermanentFetchError,
    Wanted,
)
from edge_agent.ota.machine import UpdateState
from edge_agent.ota.resolve import UpdateRejectedError
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.trusted import ExpiredError
from edge_agent.probe import Limits, SelfTestError
from edge_contract.canonical import sha256_hex
from edge_contract.errors import BundleSignatureError, BundleUnsignedError
from edge_contract.signing import generate_key
from tests.support.bundles import make_bundle
from tests.support.faulty_server import Fault
from tests.support.randomness import seeded
from tests.support.tuf_repository import TufRepository, rule
from tests.support.update_world import (
    SELFTEST,
    TARGET,
    World,
    commit,
    open_world,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as one:
        yield one


def test_a_release_is_fetched_verified_tested_and_waits(world: World) -> None:
    digest = world.release(1)
    record = world.update()
    assert record.is_ready
    assert (record.digest, record.release_counter, record.attempt) == (digest, 1, 1)
    slots = Slots(world.slot_dir)
    assert slots.holds(digest)
    assert slots.active is None
    assert record.downloaded_bytes == slots.path(digest).stat().st_size
    assert world.update() == record
    assert len(world.server.requests) == 1


def test_nothing_is_wanted(world: World) -> None:
    world.repository.publish()
    assert world.update().state is UpdateState.IDLE
    world.release(1)
    world.repository.set_desired(2, rule(TARGET, "00" * 32, 1, devices=["other"]))
    world.repository.publish()
    assert world.update().state is UpdateState.IDLE


def test_rules_go_by_device_percent_and_tags(world: World) -> None:
    digest = world.release(1)
    world.repository.set_desired(
        2,
        rule(TARGET, "11" * 32, 9, devices=["other"]),
        rule(TARGET, "22" * 32, 9, percent=0),
        rule(TARGET, "33" * 32, 9, where="site=south"),
        rule(TARGET, "44" * 32, 9, **{"except": ["watch-1"]}),
        rule(TARGET, digest, 1, percent=100, where="site=north and not beta"),
    )
    world.repository.publish()
    assert world.update().digest == digest


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("cut", [Fault(cut_after=700), Fault(cut_after=300)]),
        ("range ignored", [Fault(cut_after=700), Fault(ignore_range=True)]),
        ("etag changed", [Fault(cut_after=700), Fault(etag='"other"')]),
        (
            "wrong range",
            [Fault(cut_after=700), Fault(content_range="bytes 0-1/2")],
        ),
        ("416", [Fault(cut_after=700), Fault(status=416)]),
        ("busy", [Fault(status=503, retry_after="0"), Fault(status=429)]),
        ("endless", [Fault(endless=True)]),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_downloads_survive(world: World, name: str, faults: list[Fault]) -> None:
    digest = world.release(1)
    size = (world.scratch / "1.bundle").stat().st_size
    world.server.faults.extend(faults)
    sleeps: list[float] = []
    bundle = next((world.repository.folder / "targets" / "models").iterdir())
    wanted = Wanted(
        f"{world.server.url}/tuf/targets/models/{bundle.name}",
        size,
        sha256_hex(bundle.read_bytes()),
    )
    part = world.slot_dir / "part" / "bundle.part"
    access = HttpAccess.of(world.enrolment)
    download = Download(wanted, part, access, sleeps.append, seeded(1))
    assert download.run().read_bytes() == bundle.read_bytes()
    if name == "cut":
        assert world.server.body_bytes == size
        assert [one for _, one in world.server.requests] == [
            None,
            "bytes=700-",
            "bytes=1000-",
        ]
    assert len(digest) == 64


def test_a_killed_download_goes_on_where_it_was(world: World) -> None:
    world.release(1)
    world.server.faults.extend([Fault(cut_after=900), Fault(status=404)])
    with pytest.raises(PermanentFetchError, match="404"):
        world.update()
    assert world.journal.record.state is UpdateState.FAILED
    assert world.journal.record.downloaded_bytes == 900
    record = world.update()
    assert record.is_ready
    assert record.attempt == 2
    assert world.server.requests[-1][1] == "bytes=900-"


def test_a_lying_mirror_installs_nothing(world: World) -> None:
    world.release(1)
    world.server.faults.append(Fault(flip_byte=True))
    with pytest.raises(UpdateTrustError, match="sha256"):
        world.update()
    assert world.journal.record.state is UpdateState.REJECTED
    assert world.nothing_installed()
    assert world.update().is_ready


def test_compressed_bodies_are_refused(world: World) -> None:
    world.release(1)
    world.server.faults.append(Fault(encoding="gzip"))
    with pytest.raises(PermanentFetchError, match="encoding"):
        world.update()


def test_a_stolen_server_key_ships_nothing(world: World) -> None:
    world.release(1)
    world.repository.set_desired(2, rule(TARGET, "ab" * 32, 1))
    world.repository.publish()
    with pytest.raises(UpdateRejectedError, match="digest"):
        world.update()
    world.repository.set_desired(3, rule("models/evil-1.bundle", "ab" * 32, 1))
    world.repository.publish()
    with pytest.raises(UpdateRejectedError, match="lists"):
        world.update()
    assert "agent.update.rejected" in world.journal.problem
    assert not world.server.requests


def test_unsigned_and_wrongly_signed_bundles_are_refused(world: World) -> None:
    world.release(1, signed=False)
    with pytest.raises(BundleUnsignedError):
        world.update()
    assert world.journal.record.state is UpdateState.REJECTED
    world.repository.builder_key, _ = generate_key()
    world.release(2)
    with pytest.raises(BundleSignatureError):
        world.update()
    assert world.nothing_installed()


def test_a_policy_that_cannot_be_read_is_not_guessed(world: World) -> None:
    digest = world.release(1)
    wanted = rule(TARGET, digest, 1, policy={"metered": "maybe", "mood": "good"})
    world.repository.set_desired(2, wanted)
    world.repository.publish()
    with pytest.raises(UpdateError, match=r"policy: metered: expected one of allow"):
        world.update()
    assert world.nothing_installed()
    wanted = rule(TARGET, digest, 1, policy={"metered": "allow", "mood": "good"})
    world.repository.set_desired(3, wanted)
    world.repository.publish()
    assert world.update().is_ready


def test_other_hardware_is_refused(world: World) -> None:
    path = world.scratch / "x.bundle"
    digest = make_bundle(path, sign_key=world.repository.builder_key)
    world.repository.add_bundle(
        TARGET, path, digest=digest, counter=1, hardware=["rpi4"]
    )
    world.repository.set_desired(1, rule(TARGET, digest, 1))
    world.repository.publish()
    with pytest.raises(UpdateRejectedError, match="rpi4"):
        world.update()


def test_a_replayed_repository_is_refused_even_after_cache_loss(world: World) -> None:
    world.release(1)
    old = world.scratch / "old"
    shutil.copytree(world.repository.folder, old)
    world.release(2)
    assert world.update().release_counter == 2
    shutil.rmtree(world.repository.folder)
    shutil.copytree(old, world.repository.folder)
    with pytest.raises(UpdateTrustError):
        world.update()
    for path in (world.state_dir / "tuf").iterdir():
        if path.name != "floor" and path.is_file():
            path.unlink()
    with pytest.raises(UpdateTrustError, match="version 2 or newer, found 1"):
        world.update()


def test_an_older_desired_document_is_refused(world: World) -> None:
    digest = world.release(5)
    world.update()
    world.repository.set_desired(4, rule("models/toy-5.bundle", digest, 5))
    world.repository.publish()
    with pytest.raises(UpdateTrustError, match="desired"):
        world.update()


def test_a_roll_back_is_a_higher_desired_version(world: World) -> None:
    first = world.release(1)
    for _ in range(2):
        world.update()
        commit(world)
        world.release(2) if Slots(world.slot_dir).active == first else None
    assert Slots(world.slot_dir).previous == first
    world.repository.set_desired(3, rule(TARGET, first, 1))
    world.repository.publish()
    before = len(world.server.requests)
    assert world.update().digest == first
    assert len(world.server.requests) == before
    commit(world)
    assert Slots(world.slot_dir).active == first


def test_expiry_is_a_delay(world: World) -> None:
    world.repository.expires = datetime.now(UTC) - timedelta(hours=1)
    world.release(1)
    with pytest.raises(ExpiredError):
        world.update()
    world.repository.expires = datetime.now(UTC) + timedelta(hours=1)
    world.repository.publish()
    assert world.update().is_ready


def test_a_foreign_root_is_refused(world: World) -> None:
    world.release(1)
    other = TufRepository(world.scratch / "other")
    world.enrolment = replace(world.enrolment, tuf_root=other.root)
    with pytest.raises(UpdateTrustError):
        world.update()


def test_wrong_golden_outputs_are_remembered_as_bad(world: World) -> None:
    digest = world.release(1, wrong_golden=True)
    with pytest.raises(SelfTestError):
        world.update()
    assert world.journal.record.state is UpdateState.FAILED
    assert world.journal.record.reason == "agent.update.selftest"
    assert world.journal.is_known_bad(digest, 1)
    assert world.update().state is UpdateState.FAILED
    assert world.journal.record.attempt == 1


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("import sys; sys.exit(7)", "exit code 7"),
        ("print('{}')", "exit code 0"),
        ("bytearray(1 << 40)", "MemoryError"),
    ],
)
def test_a_crash_in_the_self_test_is_an_answer(
    world: World, script: str, found: str
) -> None:
    world.release(1)
    with pytest.raises(SelfTestError, match=found):
        world.update(selftest_command=lambda _: [sys.executable, "-c", script])


def test_the_self_test_tells_latency_and_memory(world: World) -> None:
    world.release(1)
    record = world.update()
    assert record.fields.keys() == {"p95_us", "rss_kib"}
    p95_us, rss_kib = record.fields["p95_us"], record.fields["rss_kib"]
    assert isinstance(p95_us, int)
    assert isinstance(rss_kib, int)
    assert 0 < p95_us < 1_000_000
    assert 8 * 1024 < rss_kib < 1024 * 1024


def test_a_release_that_is_too_slow_fails_its_self_test(world: World) -> None:
    world.release(1)
    with pytest.raises(SelfTestError, match="expected a p95 of 0 us"):
        world.update(limits=Limits(p95_us=0))
    assert world.journal.record.reason == "agent.update.selftest"


def test_the_policy_may_ask_for_less_memory(world: World) -> None:
    digest = world.release(1)
    trial = {"max_memory_bytes": 4096}
    wanted = rule(TARGET, digest, 1, policy={"trial": trial})
    world.repository.set_desired(2, wanted)
    world.repository.publish()
    told = [*SELFTEST, "--json"]
    with pytest.raises(SelfTestError, match=r"failed to map|memory"):
        world.update(selftest_command=lambda path: [*told, str(path)])


def test_plain_http_is_for_loopback_only(world: World) -> None:
    world.enrolment = replace(world.enrolment, api_url="http://192.0.2.1")
    with pytest.raises(LinkError, match="loopback"):
        world.update()


def test_a_damaged_journal_is_named(world: World) -> None:
    journal = open_slot(world.state_dir, "main") / "update.json"
    journal.write_text(json.dumps({"record": {}}))
    with pytest.raises(Exception, match=r"update\.json: malformed"):
        world.update()
