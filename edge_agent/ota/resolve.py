# SPDX-License-Identifier: Apache-2.0
"""Resolving: what this device should run, from two documents that must agree.

Owns the reading of the ``desired`` document (docs/spec/updates.md) and the comparison
with what the ``models`` role says of the same target. Either alone ships nothing. Pure:
the caller has verified both documents' signatures.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge_agent.errors import UpdateError, UpdateTrustError
from edge_contract.canonical import decode_json
from edge_contract.delta import DeltaOffer
from edge_contract.errors import CanonicalError, PolicyError, SelectionError
from edge_contract.selection import Query, parse_query
from edge_contract.update_policy import POLICY_KEYS, UpdatePolicy, parse_policy

MAX_DESIRED_BYTES: Final = 256 * 1024
FORMAT: Final = 1
ANY_HARDWARE: Final = "default"
_PERCENT = 100
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DELTA_PATH: Final = re.compile(r"deltas/[0-9a-f]{64}\.[a-z0-9._-]{1,100}", re.ASCII)


class UpdateRejectedError(UpdateTrustError):
    """The server asks for what this device must not run."""

    code = "agent.update.rejected"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the desired document; None means that all devices match.

    ``told`` is the policy as it came, as far as it is known here.
    """

    target: str
    digest: str
    release_counter: int
    devices: tuple[str, ...] | None
    percent: int | None
    salt: str
    rollout: str
    where: Query | None = None
    excluded: tuple[str, ...] = ()
    deltas: tuple[DeltaOffer, ...] = ()
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a fleet should run."""

    fleet: str
    version: int
    slots: Mapping[str, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class Release:
    """What the builder says of a target."""

    target: str
    name: str
    digest: str
    release_counter: int
    hardware: tuple[str, ...]
    bytes: int


def parse_desired(data: bytes) -> Desired:
    """Parse a desired document.

    Raises:
        UpdateError: Malformed, or of another format.
    """
    try:
        wire = decode_json(data, max_bytes=MAX_DESIRED_BYTES)
        return _desired(wire)
    except (
        *(CanonicalError, PolicyError, SelectionError),
        *(KeyError, TypeError, ValueError, AttributeError),
    ) as error:
        raise UpdateError(
            f"desired.json: malformed: {type(error).__name__}: {error}",
            next_step="check that agent and server are of versions that fit",
        ) from error


def choose_rule(
    desired: Desired, slot: str, device: str, tags: Mapping[str, str]
) -> Rule | None:
    """Return the first rule that names this device, or None: nothing to do."""
    for rule in desired.slots.get(slot, ()):
        if (
            (rule.devices is None or device in rule.devices)
            and (rule.percent is None or selects(rule.salt, device, rule.percent))
            and (rule.where is None or rule.where.matches(tags))
            and device not in rule.excluded
        ):
            return rule
    return None


def selects(salt: str, device: str, percent: int) -> bool:
    """Return whether ``device`` is among the first ``percent`` of all.

    >>> selects("s", "watch-1", 100), selects("s", "watch-1", 0)
    (True, False)
    """
    digest = hashlib.sha256(f"{salt}{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * _PERCENT < percent * 2**64


def choose_delta(
    rule: Rule, length: int, holds: Callable[[str], bool]
) -> DeltaOffer | None:
    """Return the smallest offer that this device can use; None: fetch the whole.

    Args:
        rule: What the device follows.
        length: Bytes of the whole release; an offer must be smaller.
        holds: Whether a release is in the store.
    """
    fitting = (
        one
        for one in rule.deltas
        if one.bytes < length and (one.source is None or holds(one.source))
    )
    return min(fitting, key=lambda one: one.bytes, default=None)


def parse_release(target: str, custom: Mapping[str, Any], length: int) -> Release:
    """Read what the ``models`` role says of a target.

    Raises:
        UpdateError: Malformed, or its length contradicts itself.
    """
    try:
        release = Release(
            target=target,
            name=_text(custom["name"]),
            digest=_digest(custom["digest"]),
            release_counter=_integer(custom["release_counter"]),
            hardware=tuple(_text(one) for one in custom["hardware"]),
            bytes=_integer(custom["bytes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UpdateError(
            f"target {target}: malformed: {type(error).__name__}: {error}"
        ) from error
    if release.bytes != length:
        raise UpdateRejectedError(
            f"target {target}: expected {length} bytes, found {release.bytes} declared"
        )
    return release


def check_agreement(rule: Rule, release: Release, hardware: str) -> None:
    """Refuse a release on which server and builder disagree, or for other hardware.

    Raises:
        UpdateRejectedError: Digest or counter differ, or no variant fits.
    """
    for name, wanted, found in (
        ("digest", release.digest, rule.digest),
        ("release_counter", release.release_counter, rule.release_counter),
    ):
        if wanted != found:
            raise UpdateRejectedError(
                f"{rule.target}: expected {name} {wanted} as the builder signed it, "
                f"found {found} in desired.json",
                next_step="tell the operator: the server may be compromised",
            )
    if not {hardware, ANY_HARDWARE} & set(release.hardware):
        raise UpdateRejectedError(
            f"{rule.target}: expected a variant for {hardware}, "
            f"found {', '.join(release.hardware) or 'none'}",
            next_step="build the release with a variant for this device profile",
        )


def _desired(wire: Any) -> Desired:
    if wire["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {wire['format']!r}")
    return Desired(
        fleet=_text(wire["fleet"]),
        version=_integer(wire["desired_version"]),
        slots={
            _text(slot): tuple(_rule(one) for one in rules)
            for slot, rules in wire["slots"].items()
        },
    )


def _rule(one: Any) -> Rule:
    devices, percent, where = one["devices"], one["percent"], one.get("where")
    if percent is not None and not 0 <= _integer(percent) <= _PERCENT:
        raise ValueError(f"expected a percentage, found {percent}")
    return Rule(
        target=_text(one["target"]),
        digest=_digest(one["digest"]),
        release_counter=_integer(one["release_counter"]),
        devices=None if devices is None else tuple(_text(name) for name in devices),
        percent=percent,
        salt=str(one["salt"]),
        rollout=str(one["rollout"]),
        where=None if where is None else parse_query(_text(where)),
        excluded=tuple(_text(name) for name in one.get("except", ())),
        deltas=tuple(_delta(delta) for delta in one.get("deltas", ())),
        policy=parse_policy(one.get("policy")),
        told={k: v for k, v in (one.get("policy") or {}).items() if k in POLICY_KEYS},
    )


def _delta(one: Any) -> DeltaOffer:
    path, source = _text(one["path"]), one["source"]
    if not _DELTA_PATH.fullmatch(path):
        raise ValueError(f"expected a path below deltas/, found {path[:80]!r}")
    return DeltaOffer(
        source=None if source is None else _digest(source),
        path=path,
        sha256=_digest(one["sha256"]),
        bytes=_integer(one["bytes"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, found {value!r}")
    return value


def _digest(value: Any) -> str:
    text = _text(value)
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"expected 64 hex digits, found {text[:80]!r}")
    return text


def _integer(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"expected a whole number, found {value!r}")
    return value
