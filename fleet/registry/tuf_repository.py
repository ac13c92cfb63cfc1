# SPDX-License-Identifier: Apache-2.0
"""The TUF repository on disk: reading it, publishing into it, keeping it fresh.

Owns the folders ``metadata`` and ``targets`` below ``tuf``, and the order of writes:
target files, then the delegated role, then snapshot, then timestamp, each durable
before the next begins. Only the timestamp makes a publication visible, so a crash at
any point leaves the previous one in force, and publishing again heals what is left.

It holds no offline key and judges no release; see ``publication``.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from fleet.registry import metadata
from fleet.registry.errors import RepositoryError
from fleet.registry.files import move_file, remove_temporary, save_bytes
from fleet.registry.keyring import fleet_role

SignerOf = Callable[[str], Signer]
Now = Callable[[], datetime]

# The shares of its validity at which a signature is renewed: the timestamp daily.
_TIMESTAMP_SHARE = 6 / 7
_OTHER_SHARE = 0.5
_S = TypeVar("_S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class RoleStatus:
    """What is published for one role.

    Attributes:
        role: The role's name.
        version: The published version.
        expires: When its signature ends.
        key_ids: The keys that may sign for it.
    """

    role: str
    version: int
    expires: datetime
    key_ids: tuple[str, ...]


class TufRepository:
    """One TUF repository, opened for publishing with the online keys.

    Safe to use from several threads; only one process may have it open.

    Args:
        folder: The ``tuf`` folder.
        signer_of: Gives the key of ``snapshot``, ``timestamp`` and ``fleet-<id>``.
        now: The present time, with its zone.
        validity: How long new signatures hold.

    Raises:
        RepositoryError: A document is missing, damaged or not signed as it must be.
    """

    def __init__(
        self,
        folder: Path,
        signer_of: SignerOf,
        now: Now,
        validity: metadata.Validity | None = None,
    ) -> None:
        self._folder = folder
        self._signer_of = signer_of
        self._now = now
        self._validity = validity or metadata.Validity()
        self._lock = RLock()
        remove_temporary(folder)
        self._root, self._root_path = self._load_root()
        self._timestamp = self._load_verified("timestamp.json", Timestamp)
        version = self._timestamp.signed.snapshot_meta.version
        self._snapshot = self._load_verified(f"{version}.snapshot.json", Snapshot)
        self._documents = self._load_targets()

    @property
    def root_path(self) -> Path:
        """The file of the newest root document: what a device starts to trust."""
        return self._root_path

    @property
    def fleets(self) -> tuple[str, ...]:
        """The fleets that have a role."""
        names = (metadata.fleet_of_role(role) for role in self._documents)
        return tuple(name for name in names if name is not None)

    @property
    def targets(self) -> Targets:
        """The top-level targets document."""
        return self._documents["targets"].signed

    @property
    def models(self) -> Metadata[Targets]:
        """The current document of the ``models`` role."""
        return self._documents[metadata.MODELS]

    def now(self) -> datetime:
        """Return the present time by the clock that also dates the signatures."""
        return self._now()

    def publishing(self) -> AbstractContextManager[object]:
        """Return a lock that keeps other publications out while one is judged."""
        return self._lock

    def models_keys(self) -> tuple[Key, ...]:
        """Return the builder's public keys: they sign ``models`` and bundles."""
        return metadata.role_keys(self.targets, metadata.MODELS)

    def target_file(self, target_path: str) -> Path:
        """Return where the published target ``target_path`` of ``models`` lies."""
        (name,) = self.models.signed.targets[target_path].get_prefixed_paths()
        return self._folder / "targets" / name

    def desired(self, fleet: str) -> bytes | None:
        """Return the ``desired.json`` that is published for ``fleet``, if any."""
        path = metadata.desired_path(fleet)
        target = self._documents[fleet_role(fleet)].signed.targets.get(path)
        if target is None:
            return None
        return (self._folder / "targets" / target.get_prefixed_paths()[0]).read_bytes()

    def publish_models(
        self, document: Metadata[Targets], staged: Mapping[str, Path]
    ) -> None:
        """Publish a ``models`` document that has been judged already.

        Args:
            document: Signed by the builder, newer than the current one.
            staged: Target path to a complete, synced file on the same disk; the file
                is moved. A path that is absent must have been published before.
        """
        with self._lock:
            for target_path, source in staged.items():
                (name,) = document.signed.targets[target_path].get_prefixed_paths()
                move_file(source, self._folder / "targets" / name)
            self._publish({metadata.MODELS: document})

    def publish_desired(self, fleet: str, content: bytes) -> None:
        """Publish ``content`` as what the devices of ``fleet`` should run."""
        role = fleet_role(fleet)
        with self._lock:
            document = self._sign_fleet(fleet, content)
            (target,) = document.signed.targets.values()
            for name in target.get_prefixed_paths():
                save_bytes(self._folder / "targets" / name, content)
            self._publish({role: document})

    def publish_targets(self, document: Metadata[Targets], fleet: str) -> None:
        """Publish top-level targets that newly delegate to ``fleet``."""
        with self._lock:
            self._publish(
                {
                    fleet_role(fleet): self._sign_fleet(fleet, None),
                    "targets": document,
                }
            )

    def renew(self) -> tuple[str, ...]:
        """Sign again what would expire soon; return the names of the renewed roles.

        Called every few minutes and at the start of the server; does nothing most of
        the time. ``root``, ``targets`` and ``models`` are out of its reach.
        """
        with self._lock:
            now = self._now()
            due: dict[str, Metadata[Targets]] = {}
            for fleet in self.fleets:
                role = fleet_role(fleet)
                signed = self._documents[role].signed
                if metadata.is_due(signed, self._validity.fleet, now, _OTHER_SHARE):
                    due[role] = self._sign_fleet(fleet, self.desired(fleet))
            snapshot, timestamp = self._snapshot.signed, self._timestamp.signed
            if due or metadata.is_due(
                snapshot, self._validity.snapshot, now, _OTHER_SHARE
            ):
                self._publish(due)
                return (*due, "snapshot", "timestamp")
            if metadata.is_due(
                timestamp, self._validity.timestamp, now, _TIMESTAMP_SHARE
            ):
                self._publish_timestamp(self._snapshot)
                return ("timestamp",)
            return ()

    def status(self) -> tuple[RoleStatus, ...]:
        """Return version, expiry and keys of every role."""
        with self._lock:
            root = self._root.signed
            signed = {
                "root": root,
                "timestamp": self._timestamp.signed,
                "snapshot": self._snapshot.signed,
                **{name: document.signed for name, document in self._documents.items()},
            }
            top = {name: tuple(role.keyids) for name, role in root.roles.items()}
            return tuple(
                RoleStatus(
                    name,
                    document.version,
                    document.expires,
                    top[name]
                    if name in top
                    else tuple(self.targets.get_delegated_role(name).keyids),
                )
                for name, document in signed.items()
            )

    def _sign_fleet(self, fleet: str, content: bytes | None) -> Metadata[Targets]:
        role = fleet_role(fleet)
        now = self._now()
        current = self._documents.get(role)
        previous = 0 if current is None else current.signed.version
        version = metadata.next_version(previous, now)
        expires = now.replace(microsecond=0) + self._validity.fleet
        signed = metadata.build_fleet(version, expires, fleet, content)
        return metadata.sign(signed, self._signer_of(role))

    def _publish(self, changed: Mapping[str, Metadata[Targets]]) -> None:
        for role, document in changed.items():
            self._save(f"{document.signed.version}.{role}.json", document)
        documents = {**self._documents, **changed}
        now = self._now()
        snapshot = metadata.sign(
            metadata.build_snapshot(
                metadata.next_version(self._snapshot.signed.version, now),
                now.replace(microsecond=0) + self._validity.snapshot,
                documents,
            ),
            self._signer_of("snapshot"),
        )
        self._save(f"{snapshot.signed.version}.snapshot.json", snapshot)
        self._publish_timestamp(snapshot)
        # Only now, so that a refused write leaves memory as the disk is.
        self._snapshot = snapshot
        self._documents = documents

    def _publish_timestamp(self, snapshot: Metadata[Snapshot]) -> None:
        now = self._now()
        timestamp = metadata.sign(
            metadata.build_timestamp(
                metadata.next_version(self._timestamp.signed.version, now),
                now.replace(microsecond=0) + self._validity.timestamp,
                snapshot,
            ),
            self._signer_of("timestamp"),
        )
        self._save("timestamp.json", timestamp)
        self._timestamp = timestamp

    def _save(self, name: str, document: Metadata[_S]) -> None:
        save_bytes(self._folder / "metadata" / name, metadata.encode(document))

    def _load_root(self) -> tuple[Metadata[Root], Path]:
        folder = self._folder / "metadata"
        versions = [
            int(path.name.partition(".")[0]) for path in folder.glob("*.root.json")
        ]
        if not versions:
            raise RepositoryError(
                f"{folder}: expected a root document, found none",
                next_step="run `edge-fleet init` for this state folder",
            )
        name = f"{max(versions)}.root.json"
        document = self._load(name, Root)
        self._verify(name, document.signed, "root", document)
        return document, folder / name

    def _load_targets(self) -> dict[str, Metadata[Targets]]:
        top = self._load_listed("targets")
        self._verify("targets", self._root.signed, "targets", top)
        documents = {"targets": top}
        for role in metadata.delegated_names(top.signed):
            documents[role] = self._load_listed(role)
            self._verify(role, top.signed, role, documents[role])
        return documents

    def _load_listed(self, role: str) -> Metadata[Targets]:
        meta = self._snapshot.signed.meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryError(
                f"{self._folder}: the snapshot lists no {role}.json",
                next_step="restore the tuf folder from its backup",
            )
        return self._load(f"{meta.version}.{role}.json", Targets)

    def _load_verified(self, name: str, kind: type[_S]) -> Metadata[_S]:
        document = self._load(name, kind)
        self._verify(name, self._root.signed, kind.type, document)
        return document

    def _load(self, name: str, kind: type[_S]) -> Metadata[_S]:
        path = self._folder / "metadata" / name
        next_step = "restore the tuf folder from its backup"
        try:
            document: Metadata[_S] = Metadata.from_bytes(path.read_bytes())
        except (OSError, TufError) as error:
            raise RepositoryError(
                f"{path}: expected signed metadata, cannot read it: {error}",
                next_step=next_step,
            ) from error
        if not isinstance(document.signed, kind):
            raise RepositoryError(
                f"{path}: expected the role {kind.type}, found {document.signed.type}",
                next_step=next_step,
            )
        return document

    def _verify(
        self, name: str, delegator: Root | Targets, role: str, document: Metadata[_S]
    ) -> None:
        try:
            delegator.verify_delegate(role, document.signed_bytes, document.signatures)
        except TufError as error:
            raise RepositoryError(
                f"{self._folder / 'metadata'}: {name}: the signature of role {role}"
                f" does not verify: {error}",
                next_step="restore the tuf folder from its backup",
            ) from error
