# SPDX-License-Identifier: Apache-2.0
"""The agent's own limits: passed late, kept again early, and what follows."""

from edge_agent.config import LimitsConfig, Percent, Size
from edge_agent.daemon.limits import SETTLE_US, SUSTAIN_US, Change, Limit, LimitWatch
from edge_agent.flow import Readings

MIB = 1024**2
LIMITS = LimitsConfig(
    memory=Size(100 * MIB), cpu=Percent(50), temperature=80.0, disk=Size(100 * MIB)
)


def changes(watch: LimitWatch, readings: Readings, now_us: int) -> list[Change]:
    return watch.look(readings, 0, now_us)


def test_a_limit_is_passed_after_ten_seconds_above_it() -> None:
    watch, hot = LimitWatch(LIMITS), Readings(temperature=81.0)

    assert changes(watch, hot, 0) == []
    assert changes(watch, hot, SUSTAIN_US - 1) == []
    assert changes(watch, hot, SUSTAIN_US) == [
        Change(
            Limit.TEMPERATURE,
            is_passed=True,
            detail="temperature is above its limit: 81 of 80",
        )
    ]
    assert changes(watch, hot, 2 * SUSTAIN_US) == []
    assert (watch.shadows_rest, watch.loops_rest) == (True, True)


def test_a_moment_below_begins_the_ten_seconds_anew() -> None:
    watch, hot = LimitWatch(LIMITS), Readings(temperature=81.0)
    changes(watch, hot, 0)
    changes(watch, Readings(temperature=80.0), SUSTAIN_US - 1)

    assert changes(watch, hot, SUSTAIN_US) == []


def test_a_limit_is_kept_again_with_a_margin() -> None:
    watch = LimitWatch(LIMITS)
    for now_us in (0, SUSTAIN_US):
        changes(watch, Readings(temperature=81.0), now_us)

    assert changes(watch, Readings(temperature=77.0), SUSTAIN_US) == []
    kept = changes(watch, Readings(temperature=76.9), SUSTAIN_US)
    assert [(one.limit, one.is_passed) for one in kept] == [(Limit.TEMPERATURE, False)]
    assert not watch.loops_rest


def test_too_much_processor_time_rests_shadows_and_no_loop() -> None:
    watch = LimitWatch(LIMITS)
    for now_us in (0, SUSTAIN_US):
        changes(watch, Readings(cpu_permille=501), now_us)

    assert watch.passed == {Limit.CPU}
    assert (watch.shadows_rest, watch.loops_rest) == (True, False)


def settle(watch: LimitWatch, mebibytes: float) -> None:
    """Let an agent settle at so much memory."""
    for now_us in (0, SETTLE_US):
        changes(watch, Readings(rss_bytes=int(mebibytes * MIB)), now_us)


def test_memory_that_has_grown_asks_for_a_start_anew() -> None:
    watch = LimitWatch(LIMITS)
    settle(watch, 60)
    for now_us in (SETTLE_US + 1, SETTLE_US + 1 + SUSTAIN_US):
        changes(watch, Readings(rss_bytes=101 * MIB), now_us)

    assert watch.wants_restart


def test_a_model_that_is_large_from_the_start_is_told_of_and_serves_on() -> None:
    watch = LimitWatch(LIMITS)
    # The first reading may be one of before the model was there.
    changes(watch, Readings(rss_bytes=50 * MIB), 0)
    for now_us in (2_000_000, SETTLE_US, SETTLE_US + SUSTAIN_US):
        changes(watch, Readings(rss_bytes=101 * MIB), now_us)

    assert watch.passed == {Limit.MEMORY}
    assert not watch.wants_restart


def test_another_model_may_take_what_it_takes() -> None:
    watch = LimitWatch(LIMITS)
    settle(watch, 60)
    watch.settle_anew()
    for now_us in (SETTLE_US + 1, SETTLE_US + 1 + SUSTAIN_US):
        changes(watch, Readings(rss_bytes=101 * MIB), now_us)

    assert watch.passed == {Limit.MEMORY}
    assert not watch.wants_restart


def test_the_state_folder_is_limited_and_unknown_readings_are_not() -> None:
    watch = LimitWatch(LIMITS)
    for now_us in (0, SUSTAIN_US):
        watch.look(Readings(), 101 * MIB, now_us)

    assert watch.passed == {Limit.DISK}
