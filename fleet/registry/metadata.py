# SPDX-License-Identifier: Apache-2.0
"""The TUF documents of a fleet server: what they say and when they are renewed.

Owns the roles, their paths, validity and version numbers (TUF specification 1.0,
sections 4 and 6). Pure: no clock, no disk, no network. ``tuf_repository`` keeps the
documents on disk.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from fleet.registry.errors import KeyUnusableError
from fleet.registry.keyring import fleet_role

MODELS = "models"
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
# Python-tuf's pattern matching does not let "*" cross a "/".
MODELS_PATH = "models/*"
_SERIALIZER = JSONSerializer(compact=True)
_FLEET_PREFIX = fleet_role("")
_S = TypeVar("_S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class Validity:
    """How long a signature of each role holds."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    models: timedelta = timedelta(days=365)
    fleet: timedelta = timedelta(days=30)
    snapshot: timedelta = timedelta(days=30)
    timestamp: timedelta = timedelta(days=7)


def desired_path(fleet: str) -> str:
    """Return the target path of the document that tells ``fleet`` what to run."""
    return f"fleets/{fleet}/desired.json"


def fleet_of_role(role: str) -> str | None:
    """Return the fleet a role speaks for, or None for the other roles."""
    if not role.startswith(_FLEET_PREFIX):
        return None
    return role.removeprefix(_FLEET_PREFIX)


def next_version(previous: int, now: datetime) -> int:
    """Return the version after ``previous``: one more, and at least the Unix time.

    A server that was restored from an old backup thus goes on above every version that
    a device may remember, with nobody having to know which one that was. Only root,
    which must grow by exactly one, does not follow this rule.
    """
    return max(previous + 1, int(now.timestamp()))


def encode(document: Metadata[_S]) -> bytes:
    """Return the bytes of a signed document as they are published."""
    return document.to_bytes(_SERIALIZER)


def sign(signed: _S, signers: Sequence[Signer]) -> Metadata[_S]:
    """Sign a document with each of ``signers``.

    Raises:
        KeyUnusableError: One of them refuses.
    """
    document = Metadata(signed)
    for signer in signers:
        add_signature(document, signer)
    return document


def add_signature(document: Metadata[_S], signer: Signer) -> None:
    """Sign a document once more.

    Raises:
        KeyUnusableError: The signer refuses.
    """
    try:
        document.sign(signer, append=True)
    except UnsignedMetadataError as error:
        cause = error.__cause__ or error
        raise KeyUnusableError(
            f"key {signer.public_key.keyid[:12]}: cannot sign"
            f" {document.signed.type}: {type(cause).__name__}: {cause}",
            next_step="check the module or service, and the PIN",
        ) from error


def build_root(keys: Mapping[str, Sequence[Key]], threshold: int) -> Root:
    """Return root version 1; it expires at once until it is dated.

    Args:
        keys: Of each top-level role.
        threshold: How many of root's own keys must sign a root.
    """
    root = Root(version=1, consistent_snapshot=True)
    for role in TOP_ROLES:
        for key in keys[role]:
            root.add_key(key, role)
    root.roles["root"].threshold = threshold
    return root


def replace_keys(delegator: Root | Targets, role: str, keys: Sequence[Key]) -> None:
    """Let ``keys``, and no others, sign for ``role``."""
    for keyid in list(delegator.get_delegated_role(role).keyids):
        delegator.revoke_key(keyid, role)
    for key in keys:
        delegator.add_key(key, role)


def follow(signed: _S, expires: datetime, version: int) -> _S:
    """Return a copy of a document with another version and expiry."""
    successor = deepcopy(signed)
    successor.version, successor.expires = version, expires
    return successor


def build_targets(version: int, expires: datetime, models_key: Key) -> Targets:
    """Return the top-level targets, which delegate ``models`` and nothing else yet."""
    role = DelegatedRole(MODELS, [], 1, terminating=True, paths=[MODELS_PATH])
    delegations = Delegations(keys={}, roles={MODELS: role})
    targets = Targets(version=version, expires=expires, delegations=delegations)
    targets.add_key(models_key, MODELS)
    return targets


def delegate_fleet(targets: Targets, fleet: str, key: Key) -> None:
    """Let ``key`` say what the devices of ``fleet`` should run."""
    name = fleet_role(fleet)
    roles = _delegated_roles(targets)
    roles[name] = DelegatedRole(
        name, [], 1, terminating=True, paths=[f"fleets/{fleet}/*"]
    )
    targets.add_key(key, name)


def delegated_names(targets: Targets) -> tuple[str, ...]:
    """Return the names of all delegated roles, in order."""
    return tuple(_delegated_roles(targets))


def role_keys(targets: Targets, role: str) -> tuple[Key, ...]:
    """Return the keys that may sign for the delegated ``role``."""
    return tuple(
        targets.get_key(keyid) for keyid in targets.get_delegated_role(role).keyids
    )


def _delegated_roles(targets: Targets) -> dict[str, DelegatedRole]:
    if targets.delegations is None or targets.delegations.roles is None:
        return {}
    return targets.delegations.roles


def build_fleet(
    version: int, expires: datetime, fleet: str, content: bytes | None
) -> Targets:
    """Return the document of role ``fleet-<id>``, listing ``desired.json`` if given."""
    targets: dict[str, TargetFile] = {}
    if content is not None:
        path = desired_path(fleet)
        targets[path] = TargetFile.from_data(path, content, ["sha256"])
    return Targets(version=version, expires=expires, targets=targets)


def build_models(
    version: int, expires: datetime, targets: Mapping[str, TargetFile]
) -> Targets:
    """Return the document of role ``models``, which lists the releases."""
    return Targets(version=version, expires=expires, targets=dict(targets))


def build_snapshot(
    version: int, expires: datetime, documents: Mapping[str, Metadata[Targets]]
) -> Snapshot:
    """Return a snapshot of ``targets`` and all delegated roles."""
    meta = {
        f"{role}.json": MetaFile.from_data(
            document.signed.version, encode(document), ["sha256"]
        )
        for role, document in documents.items()
    }
    return Snapshot(version=version, expires=expires, meta=meta)


def build_timestamp(
    version: int, expires: datetime, snapshot: Metadata[Snapshot]
) -> Timestamp:
    """Return the timestamp that makes ``snapshot`` the current one."""
    meta = MetaFile.from_data(snapshot.signed.version, encode(snapshot), ["sha256"])
    return Timestamp(version=version, expires=expires, snapshot_meta=meta)


def is_due(signed: Signed, validity: timedelta, now: datetime, share: float) -> bool:
    """Whether less than ``share`` of a signature's validity is left."""
    return signed.expires - now < validity * share
