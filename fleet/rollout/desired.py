# SPDX-License-Identifier: Apache-2.0
"""The ``desired`` document: what the devices of a fleet should run.

Owns its form and the order of its rules, of which a device follows the first that
matches it. First come the rules of the rollout in progress, then those of the
completed ones, newest first: a device that the rollout has not reached, or from which
it was aborted, falls through to what it had before. Pure; ``engine`` publishes it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from edge_contract.canonical import encode_json
from edge_contract.selection import parse_query
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    PhaseKind,
    Rollout,
    RolloutState,
)
from fleet.rollout.planner import find_reached, selects

FORMAT = 1
# More names than this make the document heavy; a halted rollout then keeps its share.
_MAX_NAMED_DEVICES = 1000

Offers = Callable[[str], Sequence[Mapping[str, Any]]]


def no_offers(_digest: str) -> Sequence[Mapping[str, Any]]:
    """Return that no delta leads to a release."""
    return ()


def build_rules(
    rollouts: Sequence[Rollout],
    devices: Iterable[Device],
    observations: Mapping[str, Mapping[str, Observation]],
    offers: Offers = no_offers,
    boxed: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the rules for one slot.

    Args:
        rollouts: All rollouts of the slot, newest first.
        devices: The fleet's devices; needed only while a rollout is halted.
        observations: By rollout and device, for rollouts under way.
        offers: Tells which deltas lead to a release digest.
        boxed: By release digest, the devices in its penalty box.
    """
    rules: list[dict[str, Any]] = []
    for rollout in rollouts:
        if rollout.state.is_active:
            seen = observations.get(rollout.id, {})
            rules += _active_rules(rollout, tuple(devices), seen)
    for rollout in rollouts:
        if rollout.state is RolloutState.COMPLETED:
            rules.append(_rule(rollout))
            if not rollout.where and not boxed.get(rollout.digest):
                break  # every device matched: what follows is never read
    for rule in rules:
        excluded = sorted(boxed.get(rule["digest"], ()))[:_MAX_NAMED_DEVICES]
        if excluded:
            rule["except"] = excluded
        found = [dict(one) for one in offers(rule["digest"])]
        if found:
            rule["deltas"] = found
    return rules


def build_document(
    fleet: str, desired_version: int, slots: Mapping[str, list[dict[str, Any]]]
) -> bytes:
    """Return the canonical bytes of the document."""
    return encode_json(
        {
            "format": FORMAT,
            "fleet": fleet,
            "desired_version": desired_version,
            "slots": dict(slots),
        }
    )


def find_rule(
    rules: Iterable[Mapping[str, Any]], device: Device
) -> Mapping[str, Any] | None:
    """Return the rule that a device follows, as the device itself finds it."""
    for rule in rules:
        devices, percent, where = rule["devices"], rule["percent"], rule.get("where")
        if (
            (devices is None or device.id in devices)
            and (percent is None or selects(rule["salt"], device.id, percent))
            and (where is None or parse_query(where).matches(device.tags))
            and device.id not in rule.get("except", ())
        ):
            return rule
    return None


def _active_rules(
    rollout: Rollout,
    devices: tuple[Device, ...],
    observations: Mapping[str, Observation],
) -> list[dict[str, Any]]:
    is_halted = rollout.state is not RolloutState.RUNNING
    if is_halted and any(one.kind is not PhaseKind.CANARY for one in rollout.reached):
        # Nobody else starts; who has started keeps its release until a person decides.
        started = [
            device
            for device in find_reached(rollout, devices)
            if device in observations
            and observations[device].outcome is not DeviceOutcome.UNKNOWN
        ]
        if len(started) <= _MAX_NAMED_DEVICES:
            return [_rule(rollout, devices=started)] if started else []
    rules = []
    for phase in rollout.reached:
        if phase.kind is PhaseKind.CANARY:
            rules.append(_rule(rollout, devices=list(phase.devices)))
        elif phase.kind is PhaseKind.PERCENT:
            rules.append(_rule(rollout, percent=phase.amount))
        elif phase.kind is PhaseKind.QUERY:
            rules.append(_rule(rollout, where=phase.query))
        else:
            return [_rule(rollout)]  # covers the phases before it
    return rules


def _rule(
    rollout: Rollout,
    *,
    devices: list[str] | None = None,
    percent: int | None = None,
    where: str = "",
) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "target": rollout.target_path,
        "digest": rollout.digest,
        "release_counter": rollout.release_counter,
        "devices": None if devices is None else sorted(devices),
        "percent": percent,
        "salt": rollout.salt,
        "rollout": rollout.id,
    }
    queries = [one for one in (rollout.where, where) if one]
    if queries:
        rule["where"] = " and ".join(f"({one})" for one in queries)
    if rollout.policy.device:
        rule["policy"] = dict(rollout.policy.device)
    return rule
