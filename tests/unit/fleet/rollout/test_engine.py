# SPDX-License-Identifier: Apache-2.0
"""The engine over a real database and a real TUF repository, and the verbs."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from fleet.audit.log import verify_audit
from fleet.config import FleetConfig
from fleet.errors import NotFoundError, RemoteError, RequestError
from fleet.rollout.engine import RolloutEngine
from fleet.rollout.request import RolloutRequest, parse_phases
from fleet.store.engine import reading
from fleet.store.tables import audit
from tests.support.registry_world import World
from tests.support.rollout_server import DESIRED, RolloutServer, serve_rollouts

ACCEPT = ("--accept-insufficient-evidence", "demo fleet of six")


@pytest.fixture
def server(world: World) -> Iterator[RolloutServer]:
    with serve_rollouts(world) as server:
        yield server


DEVICES = tuple(f"watch-{number}" for number in range(6))


def test_a_release_goes_to_one_device_and_then_to_all(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    digest = server.publish(b"model one")

    created = server.run(
        "rollout", "create", "--model", "sample", "--canary", "1", *ACCEPT
    ).document
    server.tick()
    (canary,) = server.run("rollout", "show", "r1").document["phases"][0]["devices"]
    assert server.read_rules() == [("r1", [canary])]

    server.commit(digest, canary)
    server.tick()
    assert server.read_rules() == [("r1", None)]

    server.commit(digest, *(one for one in DEVICES if one != canary))
    server.tick()
    shown = server.run("rollout", "show", "r1")

    assert created["id"] == "r1"
    assert shown.document["state"] == "completed"
    assert shown.document["outcomes"]["succeeded"] == 6
    assert shown.document["phases"][0]["gate"]["ground"] == (
        "accepted_insufficient_evidence"
    )
    assert "insufficient evidence was accepted: demo fleet of six" in shown.text
    assert server.read_rules() == [("r1", None)]
    rule = server.read_desired()["slots"]["main"][0]
    assert rule["target"] == "models/sample-1.bundle"
    assert rule["digest"] == digest
    assert rule["release_counter"] == 1


def test_wishes_are_numbered_upwards_and_announced_once(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    digest = server.publish(b"model one")
    server.tick()
    assert server.announced == []
    server.run("rollout", "create", "--model", "sample", *ACCEPT)
    server.tick()
    first = server.read_desired()["desired_version"]
    for _ in range(3):
        server.tick()
    (canary,) = server.run("rollout", "show", "r1").document["phases"][0]["devices"]

    server.commit(digest, canary)
    server.tick()
    second = server.read_desired()["desired_version"]

    assert second > first >= int(server.world.clock.now().timestamp()) - 60
    assert server.announced == [("default", first, 0), ("default", second, 0)]


def test_a_failing_canary_holds_and_abort_brings_the_old_release_back(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    old = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", *ACCEPT)
    for _ in range(3):
        server.tick()
        server.commit(old, *DEVICES)
    server.tick()
    new = server.publish(b"model two")
    server.run("rollout", "create", "--model", "sample", "--release", "2", *ACCEPT)
    server.tick()
    (canary,) = server.run("rollout", "show", "r2").document["phases"][0]["devices"]
    before = server.read_desired()["desired_version"]

    server.fleet.report(canary, "FAILED", new, reason="selftest.golden")
    server.tick()
    held = server.run("rollout", "show", "r2")
    aborted = server.run("rollout", "abort", "r2").document
    server.tick()

    assert held.document["state"] == "held"
    assert held.document["devices"] == {
        canary: {
            "outcome": "failed",
            "reason": "selftest.golden",
            "invariant": "",
            "failures": 1,
        }
    }
    assert f"{canary}: failed (selftest.golden)" in held.text
    assert aborted["state"] == "aborted"
    assert server.read_rules() == [("r1", None)]
    assert server.read_desired()["desired_version"] > before
    with pytest.raises(RemoteError, match="cannot resume"):
        server.run("rollout", "resume", "r2")


def test_a_roll_back_is_a_rollout_of_the_older_release(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    digests = [server.publish(b"model one"), server.publish(b"model two")]
    for release in ("1", "2", "1"):
        server.run("rollout", "create", "--model", "sample", "--release", release,
                   "--phases", "all", *ACCEPT)  # fmt: skip
        server.tick()
        server.commit(digests[int(release) - 1], *DEVICES)
        server.tick()

    assert [
        (one["id"], one["release"], one["state"])
        for one in server.run("rollout", "list").document["rollouts"]
    ] == [("r3", 1, "completed"), ("r2", 2, "completed"), ("r1", 1, "completed")]
    assert server.read_rules() == [("r3", None)]
    assert server.read_desired()["slots"]["main"][0]["release_counter"] == 1


def test_insufficient_evidence_holds_until_a_person_accepts_it(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    digest = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample")
    server.tick()
    (canary,) = server.run("rollout", "show", "r1").document["phases"][0]["devices"]
    server.commit(digest, canary)
    server.tick()
    held = server.run("rollout", "show", "r1").document
    assert held["state"] == "held"
    assert held["reason"].startswith("insufficient evidence: 1 devices")

    server.run("rollout", "resume", "r1", *ACCEPT)
    server.tick()

    shown = server.run("rollout", "show", "r1").document
    assert [phase["state"] for phase in shown["phases"]] == ["passed", "running"]
    with reading(server.world.services.engine) as connection:
        entries = connection.execute(select(audit).order_by(audit.c.id)).mappings()
        steps = [
            (one["actor"], one["action"], one["detail"].get("accepted"))
            for one in entries
            if one["action"].startswith("rollout.")
        ]
        assert verify_audit(connection).entries == 1 + len(steps)
    assert steps == [
        ("admin", "rollout.create", None),
        ("admin", "rollout.start", None),
        ("system", "rollout.gate", None),  # the canary begins
        ("system", "rollout.gate", None),  # the gate holds
        ("admin", "rollout.resume", "demo fleet of six"),
        ("system", "rollout.gate", "demo fleet of six"),
    ]


def test_pause_and_resume(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    digest = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", *ACCEPT)
    server.tick()
    server.run("rollout", "pause", "r1")
    (canary,) = server.run("rollout", "show", "r1").document["phases"][0]["devices"]
    server.commit(digest, canary)
    server.tick()
    paused = server.run("rollout", "show", "r1").document
    server.run("rollout", "resume", "r1")
    server.tick()
    resumed = server.run("rollout", "show", "r1").document

    assert [phase["state"] for phase in paused["phases"]] == ["running", "pending"]
    assert paused["state"] == "paused"
    assert [phase["state"] for phase in resumed["phases"]] == ["passed", "running"]
    assert resumed["accepted_insufficient_evidence"] == "demo fleet of six"


def test_success_needs_the_device_to_serve_what_it_committed(
    server: RolloutServer,
) -> None:
    server.fleet.add("watch-0")
    digest = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", "--phases", "all", *ACCEPT)
    server.tick()
    server.commit(digest, "watch-0")
    server.world.clock.advance(seconds=1)
    server.fleet.heartbeat("watch-0", "0" * 64)
    server.tick()
    before = server.run("rollout", "show", "r1").document
    server.world.clock.advance(seconds=1)
    server.fleet.heartbeat("watch-0", digest)
    server.tick()
    after = server.run("rollout", "show", "r1").document

    assert before["devices"]["watch-0"]["outcome"] == "started"
    assert before["state"] == "running"
    assert after["devices"]["watch-0"]["outcome"] == "succeeded"
    assert after["state"] == "completed"


def test_a_crash_between_wish_and_publication_heals(
    server: RolloutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fleet.add(*DEVICES)
    server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", *ACCEPT)

    def fail(_fleet: str, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(server.engine, "_publish_desired", fail)
        with pytest.raises(OSError, match="No space"):
            server.tick()
    assert server.world.reader().read(DESIRED) is None
    assert server.announced == []

    restarted = RolloutEngine(server.world.services, server.registry.publish_desired)
    restarted.tick()

    version = server.read_desired()["desired_version"]
    assert server.announced == [("default", version, 0)]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--model", "nothing"), "fleet.not_found"),
        (("--model", "sample", "--release", "9"), "fleet.not_found"),
        (("--model", "sample", "--fleet", "south"), "fleet.not_found"),
        (("--model", "sample", "--phases", "10%,5"), "fleet.rollout.request"),
        (("--model", "sample", "--canary", "0"), "fleet.rollout.request"),
        (("--model", "sample", "--where", "site=moon"), "fleet.rollout.request"),
        (("--model", "sample", "--where", "site="), "fleet.rollout.request"),
        (("--model", "sample", "--phases", "1,site=moon"), "fleet.rollout.request"),
        (("--model", "sample", "--trial", "patience=1"), "fleet.rollout.request"),
        (("--model", "sample", "--window", "25:00-26:00"), "fleet.rollout.request"),
        (("--model", "sample", "--max-failures", "0%"), "fleet.rollout.request"),
        (("--model", "sample", ACCEPT[0], " "), "fleet.rollout.request"),
        (("--model", "sample", "--slot", "Main Slot"), "fleet.rollout.request"),
    ],
)
def test_rollouts_that_cannot_be_are_refused(
    server: RolloutServer, words: tuple[str, ...], code: str
) -> None:
    server.fleet.add(*DEVICES, site="north")
    server.publish(b"model one")

    with pytest.raises(RemoteError) as caught:
        server.run("rollout", "create", *words)

    assert caught.value.remote_code == code
    assert server.run("rollout", "list").text == "no rollouts yet"


def test_bad_words_are_usage_errors(server: RolloutServer) -> None:
    for words in (
        ("--trial", "north"),
        ("--window", "someday 01:00-02:00"),
        ("--deadline", "soon"),
        ("--max-failures", "few"),
        ("--soak", "1.5h"),
    ):
        with pytest.raises(RequestError):
            server.run("rollout", "create", "--model", "sample", *words)


def test_one_rollout_a_slot_and_no_withdrawn_release(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    server.publish(b"model one")
    server.publish(b"model two")
    key = str(server.world.paths.builder_key)
    server.run("model", "withdraw", "sample", "2", "--key", key)
    created = server.run("rollout", "create", "--model", "sample").document

    with pytest.raises(RemoteError, match="found r1, which is running"):
        server.run("rollout", "create", "--model", "sample", "--release", "1")

    assert created["release"] == 1
    assert server.run("model", "show", "sample", "1").document["withdrawn_us"] is None
    assert "withdrawn" in server.run("model", "list").text


def test_model_and_keys_verbs(server: RolloutServer) -> None:
    key = str(server.world.paths.builder_key)
    path = server.world.bundle(b"model one")

    first = server.run("model", "publish", str(path), "--key", key)
    again = server.run("model", "publish", str(path), "--key", key)
    renewed = server.run("model", "renew", "--key", key)
    status = server.run("keys", "status")

    assert (first.document["new"], again.document["new"]) == (True, False)
    assert first.document["release"] == again.document["release"] == 1
    assert "edge-fleet rollout create --model sample --release 1" in first.text
    assert renewed.text.startswith("the list of releases is signed until")
    assert {role["role"] for role in status.document["roles"]} == {
        "root", "timestamp", "snapshot", "targets", "models", "fleet-default",
    }  # fmt: skip
    assert "who takes this machine can publish models" in status.text


def test_a_fleet_without_a_role_is_named_and_the_others_are_served(
    server: RolloutServer,
) -> None:
    services = replace(
        server.world.services, config=FleetConfig(fleets=("south", "default"))
    )
    engine = RolloutEngine(services, server.registry.publish_desired)
    server.fleet.add("s1", fleet="south")
    server.fleet.add("d1")
    server.publish(b"model one")
    for fleet in ("south", "default"):
        engine.desk.create(
            RolloutRequest("sample", None, fleet=fleet, phases=parse_phases([])), "me"
        )

    with pytest.raises(NotFoundError, match="run `edge-fleet init`"):
        engine.tick()

    assert [rule[0] for rule in server.read_rules()] == ["r2"]


def test_a_device_that_goes_silent_in_mid_rollout_is_late(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    new = server.publish(b"model 2")
    server.run("rollout", "create", "--model", "sample", "--phases", "3,all",
               "--deadline", "10m", *ACCEPT)  # fmt: skip
    server.tick()
    silent, *others = server.run("rollout", "show", "r2").document["phases"][0][
        "devices"
    ]
    server.fleet.report(silent, "DOWNLOADING", new)
    server.commit(new, *others)
    server.tick()
    waiting = server.run("rollout", "show", "r2").document
    server.tick(seconds=601)
    held = server.run("rollout", "show", "r2").document

    assert waiting["phases"][0]["gate"]["in_progress"] == 1
    assert held["state"] == "held"
    assert held["phases"][0]["gate"]["late"] == 1
    assert (
        "1 of 3 devices that started failed (0 reported it, 1 are late)"
        in (held["reason"])
    )


def test_a_device_that_reports_nonsense_is_one_that_began(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    new = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", "--phases", "all", *ACCEPT)
    server.tick()
    odd, *others = DEVICES
    server.fleet.report(odd, "\x00banana", new, time_us=2**60, desired_version="x",
                        fields=[7], reason=None, serving=3)  # fmt: skip
    server.fleet.report(odd, "TRIAL", new, fields={"compared": -1, "disagreed": "all",
                                                   "invariant": 9})  # fmt: skip
    server.commit(new, *others)
    server.tick()

    shown = server.run("rollout", "show", "r1").document
    assert shown["state"] == "running"
    assert shown["devices"][odd]["outcome"] == "started"
    assert shown["outcomes"]["succeeded"] == 5
