# SPDX-License-Identifier: Apache-2.0
"""When alerts open, are told and close, without a database."""

import doctest
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from fleet.alerts import conditions, delivery
from fleet.alerts.channels import webhook
from fleet.alerts.lifecycle import MOST_AT_ONCE, plan
from fleet.alerts.symptom import Symptom

SECOND = 1_000_000
CLEAR = 300.0
HOT = Symptom("temperature", "default", "d1", "d1", "serious", "hot", "cool it")
SILENT = Symptom("device_silent", "default", "d1", "d1", "notice", "silent", "look")
BETWEEN = Symptom(
    "temperature", "default", "d1", "d1", "serious", "warm", "cool it", begins=False
)


def row(symptom: Symptom, **more: Any) -> dict[str, Any]:
    words = ("rule", "fleet", "subject", "device", "level", "title", "next_step")
    return {
        "id": 1,
        **{name: getattr(symptom, name) for name in words},
        "link": symptom.link,
        "began_us": 0,
        "opened_us": None,
        "well_us": None,
        "told_us": None,
        "acked_us": None,
        **more,
    }


@pytest.mark.parametrize("module", [conditions, delivery, webhook])
def test_the_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)

    assert result.failed == 0
    assert result.attempted > 0


def test_one_symptom_has_one_alert_however_often_it_is_seen() -> None:
    first = plan([SILENT], [], [], 0, CLEAR)
    again = plan([SILENT], [row(SILENT, opened_us=0, told_us=0)], [], SECOND, CLEAR)

    assert first.begin == [SILENT]
    assert not again


def test_what_may_be_gone_with_the_next_message_must_last() -> None:
    waiting = row(HOT)

    assert not plan([HOT], [waiting], [], 299 * SECOND, CLEAR)
    opened = plan([HOT], [waiting], [], 300 * SECOND, CLEAR)
    assert opened.change == {1: {"opened_us": 300 * SECOND}}
    assert opened.tell == [1]
    assert plan([], [waiting], [], SECOND, CLEAR).forget == [1]
    assert plan([BETWEEN], [waiting], [], SECOND, CLEAR).forget == [1]


def test_between_the_limits_an_alert_neither_opens_nor_closes() -> None:
    alert = row(BETWEEN, opened_us=0, told_us=0)

    assert not plan([BETWEEN], [], [], 0, CLEAR)
    assert not plan([BETWEEN], [alert], [], 9000 * SECOND, CLEAR)


def test_an_alert_closes_when_it_has_been_well_for_a_while() -> None:
    alert = row(SILENT, opened_us=0, told_us=0)
    well = alert | {"well_us": 10 * SECOND}

    assert plan([], [alert], [], 10 * SECOND, CLEAR).change == {
        1: {"well_us": 10 * SECOND}
    }
    assert not plan([], [well], [], 309 * SECOND, CLEAR)
    assert plan([], [well], [], 310 * SECOND, CLEAR).close == [1]
    assert plan([SILENT], [well], [], 309 * SECOND, CLEAR).change == {
        1: {"well_us": None}
    }


@pytest.mark.parametrize(
    ("mute", "told"),
    [
        ({"fleet": "default", "rule": "*", "subject": "d1"}, []),
        ({"fleet": "*", "rule": "device_silent", "subject": "*"}, []),
        ({"fleet": "other", "rule": "*", "subject": "*"}, [1]),
        ({"fleet": "default", "rule": "temperature", "subject": "*"}, [1]),
        ({"fleet": "default", "rule": "*", "subject": "d2"}, [1]),
    ],
)
def test_a_mute_keeps_what_it_names_untold(
    mute: dict[str, str], told: list[int]
) -> None:
    alert = row(SILENT, opened_us=0)

    assert plan([SILENT], [alert], [mute], SECOND, CLEAR).tell == told
    assert plan([SILENT], [alert], [], SECOND, CLEAR).tell == [1]


def test_who_has_seen_an_alert_is_not_told_of_it() -> None:
    alert = row(SILENT, opened_us=0, acked_us=0)

    assert not plan([SILENT], [alert], [], SECOND, CLEAR)


def test_a_storm_is_taken_in_parts_the_serious_first() -> None:
    many = [replace(SILENT, subject=f"d{number}") for number in range(600)]
    hot = [replace(HOT, subject=f"d{number}") for number in range(100)]
    rows = [row(one, id=place, opened_us=0) for place, one in enumerate(many)]

    begun = plan(many + hot, [], [], 0, CLEAR).begin

    assert len(begun) == MOST_AT_ONCE
    assert begun[:100] == hot
    assert len(plan(many, rows, [], 0, CLEAR).tell) == MOST_AT_ONCE


def test_the_words_follow_the_symptom() -> None:
    alert = row(SILENT, opened_us=0, told_us=0, title="silent for 15 minutes")

    assert plan([SILENT], [alert], [], 0, CLEAR).change == {1: {"title": "silent"}}
