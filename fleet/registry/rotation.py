# SPDX-License-Identifier: Apache-2.0
"""Changing keys: proposing a root, completing it, re-signing what the keys sign.

Owns the order of writes of every change of keys. A change of root, targets, snapshot or
timestamp goes through a ``ceremony``; one of ``models`` or of a fleet needs the key of
targets alone, and becomes visible with one timestamp. Either can be cut off anywhere
and run again; devices see the old keys or the new ones. The server must not be running.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Targets

from fleet.registry import metadata, release
from fleet.registry.ceremony import Ceremony, Missing
from fleet.registry.errors import CeremonyError
from fleet.registry.files import save_bytes
from fleet.registry.key_reference import KeyReference
from fleet.registry.keyring import fleet_role
from fleet.registry.site import Site
from fleet.registry.tuf_repository import TufRepository


@dataclass(frozen=True)
class Progress:
    """How far a new root has come.

    Attributes:
        version: Of the root.
        path: The proposal, to be signed by others; None when the root is in force.
        missing: The signatures that it still needs.
    """

    version: int
    path: Path | None
    missing: tuple[Missing, ...] = ()


def propose_first(
    site: Site, keys: Mapping[str, Sequence[KeyReference]], threshold: int
) -> None:
    """Propose the root of a new repository.

    Args:
        site: Where there is no repository yet.
        keys: Of each role; those of ``models`` are noted for later.
        threshold: How many of the keys of root must sign a root.

    Raises:
        CeremonyError: There is a repository, or the threshold cannot be reached.
    """
    if site.is_made:
        raise CeremonyError(
            f"{site.folder}: expected no repository yet, found one",
            next_step="change its keys with `edge-fleet keys rotate`",
        )
    for role, references in keys.items():
        for one in references:
            site.keyring.add(role, one)
    public = {role: [one.public for one in found] for role, found in keys.items()}
    _check_threshold(threshold, len(keys["root"]))
    root = metadata.build_root(public, threshold)
    expires = site.now().replace(microsecond=0) + metadata.Validity().root
    site.ceremony().propose(metadata.follow(root, expires, 1))


def propose_keys(
    site: Site,
    role: str,
    references: Sequence[KeyReference],
    threshold: int | None = None,
) -> None:
    """Propose a root under which ``references``, and no others, sign for ``role``.

    Args:
        site: Where.
        role: One of the four top-level roles.
        references: All its keys from then on; those it has renew the root's expiry.
        threshold: For root alone: how many of them must sign; None keeps it.

    Raises:
        CeremonyError: Another root waits, or the threshold cannot be reached.
    """
    for one in references:
        site.keyring.add(role, one)
    current = site.open().root
    expires = site.now().replace(microsecond=0) + metadata.Validity().root
    root = metadata.follow(current, expires, current.version + 1)
    metadata.replace_keys(root, role, [one.public for one in references])
    if threshold is not None:
        root.roles[role].threshold = threshold
    _check_threshold(root.roles[role].threshold, len(references))
    site.ceremony().propose(root)


def collect(site: Site, copies: Iterable[Path] = ()) -> Progress:
    """Add signatures to the proposed root, and adopt it once it has enough.

    Args:
        site: Where.
        copies: Copies of the proposal that others signed.

    Raises:
        CeremonyError: Nothing is proposed, or a copy is of something else.
        KeyUnusableError: A key that must sign other documents is not at hand; the
            signatures are kept.
    """
    ceremony = site.ceremony()
    for path in copies:
        ceremony.merge(path)
    if not ceremony.is_adopted:
        ceremony.sign(site.keyring.references("root"))
        missing = ceremony.missing()
        version = _proposed(ceremony).signed.version
        if missing:
            return Progress(version, ceremony.path, missing)
        _adopt(site, _proposed(ceremony))
    root = _proposed(ceremony).signed
    for role in metadata.TOP_ROLES:
        site.keyring.prune(role, root.roles[role].keyids)
    ceremony.abandon()
    return Progress(root.version, None)


def rotate_delegated(
    site: Site, role: str, reference: KeyReference, *, trust_bundles: bool = True
) -> None:
    """Let another key sign for ``models`` or for a fleet, from now on.

    Args:
        site: Where; the key of targets must be at hand.
        role: ``models`` or ``fleet-<id>``.
        reference: Its new key.
        trust_bundles: For ``models``: bundles that the old key signed stay good.

    Raises:
        KeyUnusableError: A key is not at hand.
    """
    site.keyring.add(role, reference)
    repository = site.open()
    targets = _next_targets(site, repository)
    metadata.replace_keys(targets, role, [reference.public])
    fleet = metadata.fleet_of_role(role)
    also = {}
    if fleet is not None:
        also[role] = repository.sign_fleet(fleet, targets)
    elif not (trust_bundles and _is_signed(targets, repository.models)):
        also[role] = _sign_models(site, repository, targets, trust_bundles)
    repository.publish_targets(_sign_targets(site, repository, targets), also)
    site.keyring.prune(role, [reference.public.keyid])
    if fleet is None:
        site.keyring.save_builder_public(reference)


def renew_targets(site: Site) -> None:
    """Sign the top-level targets again as they are.

    Raises:
        KeyUnusableError: The key of targets is not at hand.
    """
    repository = site.open()
    targets = _next_targets(site, repository)
    repository.publish_targets(_sign_targets(site, repository, targets), {})


def add_fleet(site: Site, repository: TufRepository, fleet: str) -> None:
    """Give a fleet a role and a key.

    Raises:
        KeyUnusableError: The key of targets, which alone can do it, is not at hand.
    """
    role = fleet_role(fleet)
    targets = _next_targets(site, repository)
    metadata.delegate_fleet(targets, fleet, site.keyring.ensure(role).public)
    document = _sign_targets(site, repository, targets)
    repository.publish_targets(document, {role: repository.sign_fleet(fleet, targets)})


def _adopt(site: Site, proposal: Metadata[Root]) -> None:
    if not site.is_made:
        _create(site, proposal)
        return
    repository = site.open(coming=proposal.signed)
    old, new = repository.root.roles["targets"], proposal.signed.roles["targets"]
    targets = None
    if old.keyids != new.keyids:
        site.keyring.signers("targets", new.keyids)  # says which key is missing
        signers = site.keyring.signers("targets", [*old.keyids, *new.keyids])
        targets = metadata.sign(_next_targets(site, repository), signers)
    repository.adopt_root(proposal, targets)


def _create(site: Site, root: Metadata[Root]) -> None:
    # Nothing trusts this repository before its timestamp exists, so an interrupted
    # run is simply done again, with the same root.
    now, validity = site.now(), metadata.Validity()
    start, version = now.replace(microsecond=0), metadata.next_version(0, now)
    builder = site.keyring.ensure(metadata.MODELS)
    roles = root.signed.roles
    signers = {
        role: site.keyring.signers(role, roles[role].keyids)
        for role in ("targets", "snapshot", "timestamp")
    }
    documents = {
        "targets": metadata.sign(
            metadata.build_targets(version, start + validity.targets, builder.public),
            signers["targets"],
        ),
        metadata.MODELS: metadata.sign(
            metadata.build_models(version, start + validity.models, {}),
            site.keyring.signers(metadata.MODELS, [builder.public.keyid]),
        ),
    }
    snapshot = metadata.sign(
        metadata.build_snapshot(version, start + validity.snapshot, documents),
        signers["snapshot"],
    )
    timestamp = metadata.sign(
        metadata.build_timestamp(version, start + validity.timestamp, snapshot),
        signers["timestamp"],
    )
    place = site.folder / "metadata"
    save_bytes(place / "1.root.json", metadata.encode(root))
    for role, document in documents.items():
        save_bytes(place / f"{version}.{role}.json", metadata.encode(document))
    save_bytes(place / f"{version}.snapshot.json", metadata.encode(snapshot))
    save_bytes(place / "timestamp.json", metadata.encode(timestamp))


def _next_targets(site: Site, repository: TufRepository) -> Targets:
    now = site.now()
    return metadata.follow(
        repository.targets,
        now.replace(microsecond=0) + metadata.Validity().targets,
        metadata.next_version(repository.targets.version, now),
    )


def _sign_targets(
    site: Site, repository: TufRepository, targets: Targets
) -> Metadata[Targets]:
    key_ids = repository.root.roles["targets"].keyids
    return metadata.sign(targets, site.keyring.signers("targets", key_ids))


def _sign_models(
    site: Site,
    repository: TufRepository,
    targets: Targets,
    trust_bundles: bool,  # noqa: FBT001 - passed on
) -> Metadata[Targets]:
    current, now = repository.models.signed, site.now()
    successor = release.build_successor(
        current,
        current.targets,
        now.replace(microsecond=0) + metadata.Validity().models,
        metadata.next_version(current.version, now),
    )
    if trust_bundles:
        release.trust_bundles_of(successor, repository.models_keys())
    else:
        release.distrust_bundles_of(successor, repository.models_keys())
    key_ids = targets.get_delegated_role(metadata.MODELS).keyids
    return metadata.sign(successor, site.keyring.signers(metadata.MODELS, key_ids))


def _is_signed(delegator: Targets, models: Metadata[Targets]) -> bool:
    try:
        delegator.verify_delegate(
            metadata.MODELS, models.signed_bytes, models.signatures
        )
    except TufError:
        return False
    return True


def _proposed(ceremony: Ceremony) -> Metadata[Root]:
    if ceremony.proposal is None:
        raise CeremonyError(
            f"{ceremony.path}: expected a proposed root, found none",
            next_step="begin with `edge-fleet keys rotate`",
        )
    return ceremony.proposal


def _check_threshold(threshold: int, keys: int) -> None:
    if not 1 <= threshold <= keys:
        raise CeremonyError(
            f"threshold: expected 1 to {keys}, the number of keys, found {threshold}",
            next_step="add keys, or lower the threshold",
        )
