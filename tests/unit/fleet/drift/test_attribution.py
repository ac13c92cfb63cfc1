# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fleet.drift.fleetwide.attribution import Candidate, attribute

GATE = 0.05
WORLD = Candidate("world", "world", np.arange(200), 2)
SITES = [
    Candidate("cohort", f"site={place}", np.arange(start, start + 20), 1)
    for place, start in enumerate(range(0, 200, 20))
]


def stray(seed: int, sd: float = 0.04) -> np.ndarray:
    """Return what devices stray by themselves, float32 [200]."""
    return np.random.default_rng(seed).normal(0, sd, 200).astype(np.float32)


def names(deviation: np.ndarray, gate: float = GATE) -> list[str]:
    found = attribute(deviation, [WORLD, *SITES], gate)
    return [one.candidate.name for one in found]


@pytest.mark.parametrize("seed", range(20))
def test_a_quiet_fleet_has_no_cause(seed: int) -> None:
    assert names(stray(seed), 0.01) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_world_takes_no_site_along(seed: int) -> None:
    assert names(stray(seed) + np.float32(0.1)) == ["world"]


def test_a_part_over_the_gate_is_not_named_for_a_whole_below_it() -> None:
    deviation = stray(3, 0.2) + np.float32(0.3)
    deviation[:20] += np.float32(0.16)

    assert float(np.median(deviation[:20])) > 0.4
    assert names(deviation, 0.4) == []


def test_a_site_whose_devices_agree_by_chance_is_not_certain() -> None:
    deviation = stray(4, 0.1)
    deviation[:20] = np.linspace(0.055, 0.065, 20)

    # Its own spread would make it certain; devices stray ten times as far.
    assert names(deviation) == []


def test_a_site_inside_a_world_is_named_beside_it() -> None:
    deviation = stray(5) + np.float32(0.2)
    deviation[40:60] -= np.float32(0.5)

    assert names(deviation) == ["world", "site=2"]
