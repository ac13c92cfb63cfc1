# SPDX-License-Identifier: Apache-2.0
"""What people do to rollouts: drafts, previews, halts, going back, two persons."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from fleet.errors import RemoteError
from fleet.rollout.errors import RolloutApprovalError, RolloutConflictError
from fleet.rollout.model import RolloutState
from fleet.store.engine import reading
from fleet.store.tables import audit
from tests.support.registry_world import World
from tests.support.rollout_server import RolloutServer, serve_rollouts

ACCEPT = ("--accept-insufficient-evidence", "demo fleet of six")
DEVICES = tuple(f"watch-{number}" for number in range(6))
ADA, BOB = "user:ada", "user:bob"


@pytest.fixture
def server(world: World) -> Iterator[RolloutServer]:
    with serve_rollouts(world) as server:
        yield server


@pytest.fixture
def strict(world: World) -> Iterator[RolloutServer]:
    with serve_rollouts(world, ("start", "roll-back", "override")) as server:
        yield server


def list_actions(server: RolloutServer) -> list[tuple[str, str]]:
    with reading(server.world.services.engine) as connection:
        rows = connection.execute(select(audit).order_by(audit.c.id)).mappings()
        return [(row["actor"], row["action"]) for row in rows]


def test_a_draft_shows_whom_it_means_and_decides_nothing(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES[:4], site="north")
    server.fleet.add(*DEVICES[4:], site="south")
    server.publish(b"model one")
    made = server.run("rollout", "create", "--model", "sample", "--draft",
                      "--phases", "1,site=south,all", *ACCEPT)  # fmt: skip
    server.tick()
    draft = server.run("rollout", "show", "r1")

    assert made.document["state"] == "draft"
    assert server.announced == []
    plan = [one["devices"] for one in draft.document["plan"]]
    assert len(plan[0]) == 1
    assert set(plan[1]) | set(plan[0]) >= set(DEVICES[4:])
    assert sorted(name for names in plan for name in names) == sorted(DEVICES)
    assert f"adds 1: {plan[0][0]}" in draft.text

    server.run("rollout", "start", "r1")
    server.tick()

    # The preview is what happens.
    assert server.read_rules() == [("r1", plan[0])]


def test_a_dry_run_keeps_nothing(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES, site="north")
    server.publish(b"model one")
    before = list_actions(server)

    shown = server.run("rollout", "create", "--model", "sample", "--dry-run",
                       "--where", "site=north")  # fmt: skip

    assert [one["adds"] for one in shown.document["plan"]] == [1, 5]
    assert server.run("rollout", "list").text == "no rollouts yet"
    assert list_actions(server) == before


def test_a_query_that_means_nobody_says_which_tags_there_are(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES, site="north", hw="pi3")
    server.publish(b"model one")

    with pytest.raises(RemoteError) as caught:
        server.run("rollout", "create", "--model", "sample",
                   "--where", "site=north and not hw=pi3")  # fmt: skip

    assert "found none among 6, whose tags are hw=pi3, site=north" in str(caught.value)


def test_two_drafts_may_wait_and_one_may_start(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    server.publish(b"model one")
    for _ in range(2):
        server.run("rollout", "create", "--model", "sample", "--draft")
    server.run("rollout", "start", "r2")

    with pytest.raises(RemoteError, match="found r2, which is running") as caught:
        server.run("rollout", "start", "r1")

    assert "abort r2" in caught.value.next_step


def test_a_broken_invariant_halts_at_once(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    new = server.publish(b"model 2")
    server.run("rollout", "create", "--model", "sample", "--phases", "3,all", *ACCEPT)
    server.tick()
    first, *others = server.run("rollout", "show", "r2").document["phases"][0][
        "devices"
    ]

    server.fleet.report(first, "ROLLED_BACK", new, reason="trial.latency",
                        fields={"invariant": "latency"})  # fmt: skip
    server.tick()
    halted = server.run("rollout", "show", "r2")

    assert halted.document["state"] == "halted"
    assert halted.document["reason"] == (
        f"an invariant broke on live traffic: {first}: latency"
    )
    assert len(others) == 2  # still under way: it did not wait for them
    with pytest.raises(RemoteError, match="expected a reason to go on"):
        server.run("rollout", "resume", "r2")
    server.run("rollout", "resume", "r2", "--accept-insufficient-evidence", "bad RAM")
    server.tick()
    # Forgiven as a breach, it is still a failure: one of three holds a small fleet.
    assert server.run("rollout", "show", "r2").document["state"] == "held"
    server.run("rollout", "promote", "r2", "--reason", "bad RAM")
    server.tick()
    assert server.run("rollout", "show", "r2").document["state"] == "running"

    server.fleet.report(others[0], "ROLLED_BACK", new, fields={"invariant": "nan"})
    server.tick()
    assert server.run("rollout", "show", "r2").document["state"] == "halted"


def test_a_halt_goes_back_by_itself_where_it_is_asked_to(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    new = server.publish(b"model 2")
    server.run("rollout", "create", "--model", "sample", "--phases", "3,all",
               "--on-halt", "roll-back", *ACCEPT)  # fmt: skip
    server.tick()
    canary = server.run("rollout", "show", "r2").document["phases"][0]["devices"][0]
    before = server.read_desired()["desired_version"]

    server.fleet.report(canary, "ROLLED_BACK", new, fields={"invariant": "nan"})
    server.tick()
    server.tick()

    shown = server.run("rollout", "show", "r2").document
    assert shown["state"] == "rolled_back"
    assert shown["reason"].startswith(
        "rolled back to sample release 1 by system: an inv"
    )
    assert server.read_rules() == [("r1", None)]
    assert server.read_desired()["desired_version"] > before
    assert ("system", "rollout.roll-back") in list_actions(server)


def test_one_command_rolls_a_completed_rollout_back(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    server.complete(2, *DEVICES)
    before = server.read_desired()["desired_version"]

    done = server.run("rollout", "roll-back", "r2")
    server.tick()

    assert done.document["reason"] == "rolled back to sample release 1 by admin"
    assert server.read_rules() == [("r1", None)]
    rule = server.read_desired()["slots"]["main"][0]
    assert rule["release_counter"] == 1
    assert server.read_desired()["desired_version"] > before
    with pytest.raises(RemoteError, match="expected a completed rollout of slot main"):
        server.run("rollout", "roll-back", "r1")
    with pytest.raises(RemoteError, match="cannot roll-back"):
        server.run("rollout", "roll-back", "r2")


def test_the_newest_rollout_is_rolled_back_first(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    for release in (1, 2, 3):
        server.complete(release, *DEVICES)

    with pytest.raises(RemoteError, match="found r3, completed") as caught:
        server.run("rollout", "roll-back", "r2")

    assert caught.value.next_step == "roll back r3 first"


def test_nobody_goes_back_to_a_withdrawn_release(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    server.complete(2, *DEVICES)
    key = str(server.world.paths.builder_key)
    server.run("model", "withdraw", "sample", "1", "--key", key)

    with pytest.raises(RemoteError, match="sample release 1 was withdrawn"):
        server.run("rollout", "roll-back", "r2")


def test_promotion_passes_one_phase_on_record(server: RolloutServer) -> None:
    server.fleet.add(*DEVICES)
    digest = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", "--phases", "2,4,all")
    server.tick()
    server.commit(
        digest, *server.run("rollout", "show", "r1").document["phases"][0]["devices"]
    )
    server.tick()
    server.run("rollout", "promote", "r1", "--reason", "tested on the bench")
    server.tick()

    shown = server.run("rollout", "show", "r1").document
    assert [phase["state"] for phase in shown["phases"]] == [
        "passed",
        "running",
        "pending",
    ]
    assert shown["phases"][0]["promoted"] == "tested on the bench (admin)"
    assert shown["phases"][0]["gate"]["ground"] == "promoted"
    assert shown["accepted_insufficient_evidence"] is None
    assert ("admin", "rollout.promote") in list_actions(server)


def test_three_failures_put_a_device_into_the_penalty_box(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    server.complete(1, *DEVICES)
    new = server.publish(b"model 2")
    server.run("rollout", "create", "--model", "sample", "--phases", "all",
               "--max-failures", "50%", *ACCEPT)  # fmt: skip
    server.tick()
    bad, *good = DEVICES
    for _ in range(3):
        server.fleet.report(bad, "DOWNLOADING", new)
        server.fleet.report(bad, "FAILED", new, reason="selftest.golden")
        server.tick()
    server.commit(new, *good)
    server.tick()

    (rule, rest) = server.read_desired()["slots"]["main"]
    assert rule["except"] == [bad]
    assert rest["rollout"] == "r1"  # what it had before still holds for it
    (boxed,) = server.run("rollout", "boxed").document["boxed"]
    assert (boxed["device"], boxed["failures"], boxed["reason"]) == (
        bad,
        3,
        "selftest.golden",
    )
    assert ("system", "rollout.box") in list_actions(server)

    server.run("rollout", "release", bad)
    server.tick()

    assert "except" not in server.read_desired()["slots"]["main"][0]
    assert server.run("rollout", "boxed").text == "nobody is boxed"
    with pytest.raises(RemoteError, match="expected it in the penalty box"):
        server.run("rollout", "release", bad)


def test_a_boxed_device_is_not_counted_in_another_rollout_of_the_release(
    server: RolloutServer,
) -> None:
    server.fleet.add(*DEVICES)
    new = server.publish(b"model one")
    server.run("rollout", "create", "--model", "sample", "--phases", "all", *ACCEPT)
    server.tick()
    for _ in range(3):
        server.fleet.report(DEVICES[0], "FAILED", new, reason="disk")
    server.tick()
    server.run("rollout", "abort", "r1")
    server.tick(seconds=5)
    server.run("rollout", "create", "--model", "sample", "--phases", "all", *ACCEPT)
    server.tick()
    server.commit(new, *DEVICES[1:])
    server.tick()

    shown = server.run("rollout", "show", "r2").document
    assert shown["state"] == "completed"
    assert shown["phases"][0]["gate"]["succeeded"] == 5
    assert shown["phases"][0]["gate"]["failed"] == 0


def test_a_start_waits_for_a_second_person(strict: RolloutServer) -> None:
    desk = strict.engine.desk
    strict.fleet.add(*DEVICES)
    strict.publish(b"model one")
    strict.run("rollout", "create", "--model", "sample", "--draft", *ACCEPT)

    asked = desk.start("r1", ADA)
    strict.tick()

    assert asked.state is RolloutState.DRAFT
    assert strict.announced == []
    assert "asked by user:ada" in strict.run("rollout", "list").text
    with pytest.raises(RolloutApprovalError, match="somebody else than user:ada"):
        desk.approve("r1", ADA)
    with pytest.raises(RolloutApprovalError, match="the token's name admin"):
        desk.approve("r1", "admin")

    approved = desk.approve("r1", BOB)
    strict.tick()

    assert approved.state is RolloutState.RUNNING
    assert approved.pending is None
    assert strict.read_rules() != []
    assert list_actions(strict)[1:4] == [
        ("admin", "rollout.create"),
        (ADA, "rollout.ask.start"),
        (BOB, "rollout.approve"),
    ]
    with pytest.raises(RolloutConflictError, match="expected something to approve"):
        desk.approve("r1", BOB)


def test_stopping_needs_nobody_and_a_token_is_no_person(strict: RolloutServer) -> None:
    desk = strict.engine.desk
    strict.fleet.add(*DEVICES)
    strict.publish(b"model one")
    strict.run("rollout", "create", "--model", "sample", "--draft")
    desk.start("r1", ADA)
    # A stop needs nobody, and takes the question back.
    assert desk.abort("r1", BOB).pending is None
    with pytest.raises(RemoteError, match="found the token's name admin"):
        strict.run("rollout", "create", "--model", "sample")


def test_an_override_and_a_roll_back_wait_as_well(strict: RolloutServer) -> None:
    desk = strict.engine.desk
    strict.fleet.add(*DEVICES)
    for number, release in enumerate((b"model one", b"model two"), 1):
        digest = strict.publish(release)
        strict.run("rollout", "create", "--model", "sample", "--draft",
                   "--phases", "all")  # fmt: skip
        desk.start(f"r{number}", ADA)
        desk.approve(f"r{number}", BOB)
        strict.tick()
        strict.commit(digest, *DEVICES)
        strict.tick()
        held = desk.promote(f"r{number}", ADA, "six is all we have")
        assert held.state is RolloutState.HELD
        assert held.pending is not None
        desk.approve(f"r{number}", BOB)
        strict.tick()
    before = strict.read_rules()
    waiting = desk.roll_back("r2", BOB)
    strict.tick()
    assert waiting.state is RolloutState.COMPLETED
    assert strict.read_rules() == before

    done = desk.approve("r2", ADA)
    strict.tick()

    assert done.state is RolloutState.ROLLED_BACK
    assert done.reason == "rolled back to sample release 1 by user:bob"
    assert strict.read_rules() == [("r1", None)]
