# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from edge_contract.errors import PolicyError
from edge_contract.update_policy import (
    MAX_WINDOWS,
    MaintenanceWindow,
    ShadowPolicy,
    TrialPolicy,
    UpdatePolicy,
    parse_policy,
)

NIGHT = {"days": [6, 0, 6], "start": "22:00", "end": "06:30"}
WHOLE: dict[str, Any] = {
    "windows": [NIGHT],
    "urgent": True,
    "metered": "deltas",
    "trial": {
        "inferences": 500,
        "seconds": 3600,
        "max_p95_percent": 150,
        "max_memory_bytes": 2**26,
        "min_confidence_percent": 70,
        "max_disagreement_percent": 30,
    },
    "shadow": {"inferences": 1000, "seconds": 86400},
}


def test_a_whole_policy() -> None:
    assert parse_policy(WHOLE) == UpdatePolicy(
        windows=(MaintenanceWindow((0, 6), 1320, 390),),
        urgent=True,
        metered="deltas",
        trial=TrialPolicy(500, 3600, 150, 2**26, 70, 30),
        shadow=ShadowPolicy(1000, 86400),
    )


@pytest.mark.parametrize("wire", [None, {}, {"future": {"x": 1}}, {"windows": None}])
def test_where_it_is_silent_the_device_decides(wire: Any) -> None:
    assert parse_policy(wire) == UpdatePolicy()


def test_no_window_is_another_thing_than_silence() -> None:
    assert parse_policy({"windows": []}).windows == ()


def test_unknown_keys_inside_are_ignored() -> None:
    wire = {"trial": {"inferences": 5, "mood": "good"}, "windows": [NIGHT | {"x": 1}]}
    assert parse_policy(wire).trial == TrialPolicy(inferences=5)


@pytest.mark.parametrize(
    "wire",
    [
        [],
        "urgent",
        {"urgent": 1},
        {"metered": "sometimes"},
        {"metered": True},
        {"windows": NIGHT},
        {"windows": [NIGHT] * (MAX_WINDOWS + 1)},
        {"windows": [NIGHT | {"days": []}]},
        {"windows": [NIGHT | {"days": [7]}]},
        {"windows": [NIGHT | {"days": [True]}]},
        {"windows": [NIGHT | {"start": "24:00"}]},
        {"windows": [NIGHT | {"start": "9:00"}]},
        {"windows": [NIGHT | {"end": "06:60"}]},
        {"windows": [{"days": [0], "start": "22:00"}]},
        {"trial": {"inferences": 0}},
        {"trial": {"seconds": 1.5}},
        {"trial": {"max_p95_percent": -1}},
        {"trial": {"min_confidence_percent": 101}},
        {"trial": {"max_disagreement_percent": True}},
        {"trial": []},
        {"shadow": {}},
        {"shadow": {"inferences": "many"}},
        {"shadow": {"inferences": 5, "seconds": 0}},
    ],
)
def test_a_value_of_another_kind_is_refused(wire: Any) -> None:
    with pytest.raises(PolicyError, match=r"policy: .*expected"):
        parse_policy(wire)
