# SPDX-License-Identifier: Apache-2.0
"""What the ``models`` role says of a release, and which changes of it are allowed.

Owns the ``custom`` object of a model's TUF target, the target's name, and the rules
by which a new ``models`` document may follow the current one. Pure: bytes and
documents in, verdicts out; see ``builder`` (who signs) and ``publication`` (who
judges) for the two sides that must agree on it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, TargetFile, Targets

from edge_contract.errors import ManifestError
from edge_contract.manifest import Manifest, check_model_name
from fleet.registry.errors import ReleaseConflictError, ReleaseRefusedError
from fleet.registry.metadata import MODELS

MAX_MODELS_BYTES = 5_000_000  # python-tuf's default limit, so what a device accepts
_NOTES = "edgeloop"  # our field in the signed part of the document
_SIGN_AGAIN = "run `edge-fleet model publish` again, it starts from the newest document"


@dataclass(frozen=True)
class Release:
    """One release as the ``models`` role lists it.

    Attributes:
        target_path: Its name in the repository.
        name: The model's name.
        release_counter: Grows with every release of this model.
        digest: The release digest.
        hardware: The device profiles it has a variant for; ``default`` means any.
        ref_id: Of its reference profile, 16 hex digits.
        bytes: Length of the bundle file.
        sha256: Digest of the bundle file.
    """

    target_path: str
    name: str
    release_counter: int
    digest: str
    hardware: tuple[str, ...]
    ref_id: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Change:
    """What a new ``models`` document adds to and withdraws from the current one."""

    added: tuple[Release, ...]
    withdrawn: tuple[Release, ...]


def target_path(name: str, release_counter: int) -> str:
    """Return the target path of a release.

    >>> target_path("watch", 3)
    'models/watch-3.bundle'
    """
    return f"models/{check_model_name(name)}-{release_counter}.bundle"


def describe_target(
    manifest: Manifest, release_counter: int, length: int, sha256: str
) -> TargetFile:
    """Return the entry that lists a bundle as release ``release_counter``."""
    custom = {
        "release_counter": release_counter,
        "digest": manifest.digest,
        "name": manifest.name,
        "hardware": sorted(manifest.selected),
        "ref_id": manifest.ref_id,
        "bytes": length,
    }
    path = target_path(manifest.name, release_counter)
    return TargetFile(length, {"sha256": sha256}, path, {"custom": custom})


def read_release(target: TargetFile) -> Release:
    """Read the release that a target describes.

    Raises:
        ReleaseRefusedError: The entry is not of the form that we write.
    """
    custom: Mapping[str, Any] = target.custom or {}
    try:
        release = Release(
            target_path=target.path,
            name=check_model_name(custom["name"]),
            release_counter=_positive(custom["release_counter"]),
            digest=_hex(custom["digest"], 64),
            hardware=tuple(str(profile) for profile in custom["hardware"]),
            ref_id=_hex(custom["ref_id"], 16),
            bytes=_positive(custom["bytes"]),
            sha256=_hex(target.hashes["sha256"], 64),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ManifestError) as error:
        raise ReleaseRefusedError(
            f"models: {target.path}: expected a complete description of a release,"
            f" found {type(error).__name__}: {error}",
            next_step="sign it with `edge-fleet model publish`",
        ) from error
    expected = target_path(release.name, release.release_counter)
    if release.target_path != expected or release.bytes != target.length:
        raise ReleaseRefusedError(
            f"models: {target.path}: expected the name {expected} and the length"
            f" {target.length}, found a description of {release.bytes} bytes",
            next_step="sign it with `edge-fleet model publish`",
        )
    return release


def list_releases(targets: Targets) -> tuple[Release, ...]:
    """Return all listed releases, by name and counter."""
    releases = (read_release(target) for target in targets.targets.values())
    return tuple(sorted(releases, key=lambda one: (one.name, one.release_counter)))


def highest_counters(targets: Targets) -> dict[str, int]:
    """Return the highest number that each model ever had, withdrawn releases too.

    Raises:
        ReleaseRefusedError: An entry is malformed.
    """
    noted = _notes(targets).get("highest", {})
    try:
        highest = {check_model_name(name): _positive(noted[name]) for name in noted}
    except (TypeError, ValueError, ManifestError) as error:
        raise ReleaseRefusedError(
            f"models: expected the highest number of each model, found {noted!r}",
            next_step="sign it with `edge-fleet model publish`",
        ) from error
    for one in list_releases(targets):
        highest[one.name] = max(highest.get(one.name, 0), one.release_counter)
    return highest


def build_successor(
    current: Targets, listed: Mapping[str, TargetFile], expires: datetime, version: int
) -> Targets:
    """Return the document that follows ``current`` and lists ``listed``.

    It notes which version it follows, so that two builders who start from the same
    document cannot undo each other, and the highest number of every model, so that
    the number of a withdrawn release is never given again.
    """
    successor = Targets(version=version, expires=expires, targets=dict(listed))
    highest = highest_counters(current) | {
        name: counter
        for name, counter in highest_counters(successor).items()
        if counter > highest_counters(current).get(name, 0)
    }
    successor.unrecognized_fields[_NOTES] = {
        "follows": current.version,
        "highest": highest,
        "bundle_keys": bundle_keys(current),
    }
    return successor


def bundle_keys(targets: Targets) -> list[str]:
    """Return the raw Ed25519 keys, in hex, whose bundles the builder vouches for too.

    The builder's own Ed25519 keys sign bundles without being named here. One is named
    after it was replaced, or where the builder's key is of another kind, in a module.

    Raises:
        ReleaseRefusedError: The entry is malformed.
    """
    noted = _notes(targets).get("bundle_keys", [])
    try:
        return [_hex(one, 64) for one in noted]
    except (TypeError, ValueError) as error:
        raise ReleaseRefusedError(
            f"models: expected a list of bundle keys, found {noted!r}",
            next_step="sign it with `edge-fleet model publish`",
        ) from error


def trust_bundles_of(successor: Targets, keys: Iterable[Key]) -> None:
    """Vouch in a document for the bundles that ``keys`` signed."""
    notes = _notes(successor)
    added = [raw.hex() for raw in raw_ed25519(keys)]
    notes["bundle_keys"] = sorted({*bundle_keys(successor), *added})


def distrust_bundles_of(successor: Targets, keys: Iterable[Key]) -> None:
    """Vouch no longer for the bundles that ``keys`` signed."""
    gone = {raw.hex() for raw in raw_ed25519(keys)}
    kept = [one for one in bundle_keys(successor) if one not in gone]
    _notes(successor)["bundle_keys"] = kept


def raw_ed25519(keys: Iterable[Key]) -> list[bytes]:
    """Return the raw bytes of those keys that can sign bundles."""
    return [
        bytes.fromhex(key.keyval["public"])
        for key in keys
        if isinstance(key, SSlibKey) and key.keytype == "ed25519"
    ]


def parse_models(data: bytes) -> Metadata[Targets]:
    """Parse the bytes of a ``models`` document, trusting nothing of it yet.

    Raises:
        ReleaseRefusedError: They are too long or are no such document.
    """
    problem = f"{len(data)} bytes, more than {MAX_MODELS_BYTES}"
    cause: Exception | None = None
    if len(data) <= MAX_MODELS_BYTES:
        try:
            document: Metadata[Any] = Metadata.from_bytes(data)
        except TufError as error:
            problem, cause = str(error), error
        else:
            if isinstance(document.signed, Targets):
                return document
            problem = f"a document of type {document.signed.type}"
    raise ReleaseRefusedError(
        f"models: expected signed TUF targets metadata, found {problem}",
        next_step="sign it with `edge-fleet model publish`",
    ) from cause


def check_successor(
    delegator: Targets,
    current: Metadata[Targets],
    new: Metadata[Targets],
    now: datetime,
) -> None:
    """Check that ``new`` may take the place of ``current``, whatever it lists.

    Raises:
        ReleaseRefusedError: The builder's key did not sign it, it has expired, or it
            delegates.
        ReleaseConflictError: Its version is not above the current one.
    """
    try:
        delegator.verify_delegate(MODELS, new.signed_bytes, new.signatures)
    except TufError as error:
        raise ReleaseRefusedError(
            f"models: expected the signature of the key(s) {_key_ids(delegator)},"
            f" which does not verify: {error}",
            next_step="sign with the builder's key that `edge-fleet init` printed",
        ) from error
    if new.signed.delegations is not None:
        raise ReleaseRefusedError(
            "models: expected a list of releases, found delegations to other keys",
            next_step="sign it with `edge-fleet model publish`",
        )
    if new.signed.is_expired(now):
        raise ReleaseRefusedError(
            f"models: expected a signature that still holds, found one until"
            f" {new.signed.expires:%Y-%m-%d}",
            next_step="set the clock where the key is, and sign again",
        )
    follows = _notes(new.signed).get("follows")
    if new.signed.version <= current.signed.version or (
        follows != current.signed.version
    ):
        raise ReleaseConflictError(
            f"models: expected the successor of version {current.signed.version},"
            f" found version {new.signed.version}, which follows {follows}",
            next_step=_SIGN_AGAIN,
        )


def compare(current: Targets, new: Targets) -> Change:
    """Return what ``new`` adds and withdraws.

    Raises:
        ReleaseRefusedError: An entry is malformed.
        ReleaseConflictError: An entry was changed, a digest is listed twice, or a
            counter does not grow.
    """
    for path in current.targets.keys() & new.targets.keys():
        if current.targets[path] != new.targets[path]:
            raise ReleaseConflictError(
                f"models: {path}: expected the published entry, found a changed one",
                next_step="publish the changed bundle as a new release",
            )
    before, after = list_releases(current), list_releases(new)
    added = tuple(one for one in after if one.target_path not in current.targets)
    highest, noted = highest_counters(current), highest_counters(new)
    for name, counter in highest.items():
        if noted.get(name, 0) < counter:
            raise ReleaseConflictError(
                f"models: {name}: expected the note that release {counter} was given,"
                f" found {noted.get(name)}",
                next_step=_SIGN_AGAIN,
            )
    for one in added:
        if one.release_counter <= highest.get(one.name, 0):
            raise ReleaseConflictError(
                f"models: {one.name}: expected a release counter above"
                f" {highest[one.name]}, found {one.release_counter}",
                next_step=_SIGN_AGAIN,
            )
    digests = [one.digest for one in after]
    for one in added:
        if digests.count(one.digest) > 1:
            raise ReleaseConflictError(
                f"models: {one.target_path}: the release digest {one.digest[:12]} is"
                " listed already",
                next_step="`edge-fleet model list` shows under which number",
            )
    withdrawn = tuple(one for one in before if one.target_path not in new.targets)
    return Change(added, withdrawn)


def _notes(targets: Targets) -> dict[str, Any]:
    notes = targets.unrecognized_fields.get(_NOTES, {})
    if not isinstance(notes, dict):
        raise ReleaseRefusedError(
            f"models: expected an object as {_NOTES!r}, found {notes!r}",
            next_step="sign it with `edge-fleet model publish`",
        )
    return notes


def _key_ids(delegator: Targets) -> str:
    return ", ".join(one[:12] for one in delegator.get_delegated_role(MODELS).keyids)


def _positive(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"expected a positive integer, found {value!r}")
    return value


def _hex(value: object, digits: int) -> str:
    if not isinstance(value, str) or len(value) != digits:
        raise ValueError(f"expected {digits} hex digits, found {value!r}")
    if value != bytes.fromhex(value).hex():
        raise ValueError(f"expected {digits} lower-case hex digits, found {value!r}")
    return value
