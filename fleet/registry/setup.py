# SPDX-License-Identifier: Apache-2.0
"""Making a repository: the only place where the offline keys are read.

Owns ``init_repository``, which ``edge-fleet init`` calls. It may be run again at any
time: it finishes what was interrupted and adds fleets that have no role yet. The
server must not be running meanwhile.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_contract.topics import check_fleet_id
from fleet.registry import metadata
from fleet.registry.errors import RepositoryError
from fleet.registry.files import save_bytes
from fleet.registry.keyring import OFFLINE_ROLES, ONLINE_ROLES, Keyring, fleet_role
from fleet.registry.tuf_repository import Now, TufRepository


@dataclass(frozen=True)
class RepositoryPaths:
    """Where ``init_repository`` put what others need.

    Attributes:
        root: The newest root document; its bytes go into every enrolment file.
        builder_key: The private key that signs bundles and the ``models`` role.
        builder_public: Its public half.
    """

    root: Path
    builder_key: Path
    builder_public: Path


def tuf_folder(state_dir: Path) -> Path:
    """Return the folder of the TUF repository."""
    return state_dir / "tuf"


def system_now() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


def open_repository(state_dir: Path, now: Now = system_now) -> TufRepository:
    """Open the repository of ``state_dir`` for publishing with its online keys.

    Raises:
        RepositoryError: There is none yet, or it is damaged.
    """
    keyring = Keyring(state_dir / "keys")
    return TufRepository(tuf_folder(state_dir), keyring.signer, now)


def init_repository(
    state_dir: Path, fleets: Iterable[str], now: Now = system_now
) -> RepositoryPaths:
    """Make keys and repository below ``state_dir``, or complete them.

    Args:
        state_dir: The state folder of the server.
        fleets: The fleets that must have a role afterwards.
        now: The present time, with its zone.

    Raises:
        RepositoryError: What is there is damaged, or a fleet must be added and the
            ``targets`` key is not on this machine.
        TopicError: A fleet id breaks the grammar.
    """
    keyring = Keyring(state_dir / "keys")
    folder = tuf_folder(state_dir)
    if not (folder / "metadata" / "timestamp.json").exists():
        _create(folder, keyring, now())
    repository = TufRepository(folder, keyring.signer, now)
    for fleet in fleets:
        check_fleet_id(fleet)
        if fleet not in repository.fleets:
            _add_fleet(repository, keyring, fleet, now())
    keyring.ensure_builder_public()
    return RepositoryPaths(
        repository.root_path, keyring.path(metadata.MODELS), keyring.builder_public
    )


def _create(folder: Path, keyring: Keyring, now: datetime) -> None:
    # Nothing trusts this repository before its timestamp exists, so an interrupted
    # run is simply done again, with the keys that it had made already.
    signers = {role: keyring.ensure(role) for role in (*OFFLINE_ROLES, *ONLINE_ROLES)}
    keys = {role: signer.public_key for role, signer in signers.items()}
    validity = metadata.Validity()
    version = metadata.next_version(0, now)
    start = now.replace(microsecond=0)
    root = metadata.sign(
        metadata.build_root(keys, start + validity.root), signers["root"]
    )
    documents = {
        "targets": metadata.sign(
            metadata.build_targets(
                version, start + validity.targets, keys[metadata.MODELS]
            ),
            signers["targets"],
        ),
        metadata.MODELS: metadata.sign(
            metadata.build_models(version, start + validity.models, {}),
            signers[metadata.MODELS],
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
    place = folder / "metadata"
    save_bytes(place / "1.root.json", metadata.encode(root))
    for role, document in documents.items():
        save_bytes(place / f"{version}.{role}.json", metadata.encode(document))
    save_bytes(place / f"{version}.snapshot.json", metadata.encode(snapshot))
    save_bytes(place / "timestamp.json", metadata.encode(timestamp))


def _add_fleet(
    repository: TufRepository, keyring: Keyring, fleet: str, now: datetime
) -> None:
    if not keyring.has("targets"):
        raise RepositoryError(
            f"fleet {fleet}: expected the key of role targets in"
            f" {keyring.path('targets')}, which alone can add a fleet; it is not there",
            next_step="put the key back for the time of `edge-fleet init`",
        )
    targets = deepcopy(repository.targets)
    metadata.delegate_fleet(
        targets, fleet, keyring.ensure(fleet_role(fleet)).public_key
    )
    targets.version = metadata.next_version(targets.version, now)
    targets.expires = now.replace(microsecond=0) + metadata.Validity().targets
    document = metadata.sign(targets, keyring.signer("targets"))
    repository.publish_targets(document, fleet)
