# SPDX-License-Identifier: Apache-2.0
from typing import Any

from fleet.web.problems import Problem, find_problems

MOVE = {"summary": "ax: mean 0.5 sd higher"}


def verdict(kind: str, device: str | None, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "device": device,
        "features": [MOVE],
        "provisional": False,
        "summary": f"a {kind} verdict",
        "next_step": "look",
        **more,
    }


def test_each_kind_of_verdict_has_words_and_a_page() -> None:
    found = find_problems(
        [],
        [
            verdict("season", None),
            verdict("device", "w1", provisional=True),
            verdict("world", None),
            verdict("sensor_fault", "w2"),
        ],
        [],
        0,
    )

    assert found == [
        Problem(
            "serious",
            "w1 has drifted (provisional): ax: mean 0.5 sd higher",
            "edge-fleet sample request w1",
            "/drift?device=w1",
        ),
        Problem("serious", "a world verdict", "look", "/drift"),
        Problem("serious", "a sensor_fault verdict", "look", "/drift?device=w2"),
        Problem("notice", "a season verdict", "look", "/drift"),
    ]
