# SPDX-License-Identifier: Apache-2.0
"""Expiry: the server renews what it can, and says in time what it cannot."""

import pytest

from fleet.alerts.fact_rules import find_ending_signatures
from fleet.registry.advice import expiring
from fleet.registry.errors import KeyUnusableError
from fleet.registry.rotation import collect, propose_keys
from fleet.registry.site import Site
from fleet.store.engine import reading
from fleet.store.signatures import list_ending_signatures
from tests.support.registry_world import World


@pytest.mark.parametrize(
    ("role", "days", "told"),
    [
        ("root", 30, ""),
        ("root", 29, "expires in 29 days; sign it again: edge-fleet keys renew"),
        ("models", -1, "has expired; sign it again: edge-fleet model renew"),
        ("timestamp", 6, ""),
        ("timestamp", 2, "expires in 2 days; the server cannot renew it, look into"),
    ],
)
def test_a_signature_is_spoken_of_in_time(role: str, days: int, told: str) -> None:
    found = expiring([{"role": role, "days_left": days}])

    assert len(found) == bool(told)
    for one in found:
        assert one["role"] == role
        assert f"{one['title']}; {one['next_step']}".startswith(f"{role}: {told}")


def test_a_server_that_runs_for_a_year_asks_for_the_offline_roles_alone(
    world: World,
) -> None:
    registry = world.open()
    assert told(world) == []
    for _ in range(68):
        world.clock.advance(days=5)
        registry.renew()

    assert told(world) == ["models", "root", "targets"]

    site = Site(world.state, world.clock.now)
    propose_keys(site, "root", site.keyring.references("root"))
    collect(site)
    restarted = world.open()
    assert told(world) == ["models", "targets"]
    assert restarted.keys_status()["advice"][0].startswith("targets: expires in")


def test_a_server_that_cannot_sign_says_so_before_it_is_too_late(world: World) -> None:
    registry = world.open()
    for path in (world.state / "keys" / "online").glob("timestamp.*"):
        path.unlink()
    world.clock.advance(days=5)

    with pytest.raises(KeyUnusableError):
        registry.renew()

    assert told(world) == ["timestamp"]


def told(world: World) -> list[str]:
    """Return the roles of which alerts know that a signature ends."""
    with reading(world.services.engine) as connection:
        rows = list_ending_signatures(connection)
        titles = [one.title for one in find_ending_signatures(rows)]
    assert titles == [one["title"] for one in rows]
    return [one["role"] for one in rows]


def test_a_proposed_root_and_keys_that_sit_together_are_told(world: World) -> None:
    registry = world.open()
    site = Site(world.state, world.clock.now)
    (together,) = registry.keys_status()["advice"]
    assert "offline keys root, targets, models lie beside" in together

    propose_keys(site, "snapshot", [site.keyring.make("snapshot")])

    waiting = registry.keys_status()["advice"][0]
    assert waiting.startswith("root 2 waits for 1 more signatures")
