# SPDX-License-Identifier: Apache-2.0
"""The TUF repository on disk: reading it, publishing into it, keeping it fresh.

Owns the folders ``metadata`` and ``targets`` below ``tuf``, and the order of writes:
target files, then the delegated role, then snapshot, then timestamp, each durable
before the next begins. Only the timestamp makes a publication visible, so a crash at
any point leaves the previous one in force, and publishing again heals what is left.

It holds no offline key and judges no release; see ``publication``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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

SignersOf = Callable[[str, Collection[str]], Sequence[Signer]]
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
        threshold: How many of them must.
    """

    role: str
    version: int
    expires: datetime
    key_ids: tuple[str, ...]
    threshold: int


class TufRepository:
    """One TUF repository, opened for publishing with the online keys.

    Safe to use from several threads; only one process may have it open.

    Args:
        folder: The ``tuf`` folder.
        signers_of: Gives the keys of a role that are among some ids.
        now: The present time, with its zone.
        validity: How long new signatures hold.
        coming: A root about to be adopted; what it verifies is taken too.

    Raises:
        RepositoryError: A document is missing, damaged or not signed as it must be.
    """

    def __init__(
        self,
        folder: Path,
        signers_of: SignersOf,
        now: Now,
        validity: metadata.Validity | None = None,
        coming: Root | None = None,
    ) -> None:
        self._folder = folder
        self._signers_of = signers_of
        self._now = now
        self._validity = validity or metadata.Validity()
        self._coming = coming
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
    def root(self) -> Root:
        """The root in force."""
        return self._root.signed

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

    def publish_targets(
        self, document: Metadata[Targets], also: Mapping[str, Metadata[Targets]]
    ) -> None:
        """Publish top-level targets, with documents of roles that they newly delegate.

        One timestamp makes all of them visible together.
        """
        with self._lock:
            self._publish({**also, "targets": document})

    def sign_fleet(self, fleet: str, targets: Targets) -> Metadata[Targets]:
        """Sign what ``fleet`` has, with the key that ``targets`` will delegate to."""
        role = fleet_role(fleet)
        content = self.desired(fleet) if role in self._documents else None
        return self._sign_fleet(fleet, content, targets)

    def adopt_root(
        self, document: Metadata[Root], targets: Metadata[Targets] | None
    ) -> None:
        """Publish a root that has all its signatures, and what its new keys sign.

        Snapshot and timestamp are signed with the old and the new keys first, so that
        a device verifies them whichever root it has; the root comes last.

        Args:
            document: The successor of the root in force; ``coming`` was the same.
            targets: Signed with its key, where the root names another one.
        """
        with self._lock:
            changed = {} if targets is None else {"targets": targets}
            if changed or any(
                self._root.signed.roles[role] != document.signed.roles[role]
                for role in ("snapshot", "timestamp")
            ):
                self._publish(changed)
            name = f"{document.signed.version}.root.json"
            self._save(name, document)
            self._root, self._root_path = document, self._folder / "metadata" / name
            self._coming = None

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
            found = []
            for name, document in signed.items():
                delegator = root if name in root.roles else self.targets
                role = delegator.get_delegated_role(name)
                keys = tuple(role.keyids)
                version, expires = document.version, document.expires
                found.append(RoleStatus(name, version, expires, keys, role.threshold))
            return tuple(found)

    def _sign_fleet(
        self, fleet: str, content: bytes | None, targets: Targets | None = None
    ) -> Metadata[Targets]:
        role = fleet_role(fleet)
        now = self._now()
        current = self._documents.get(role)
        previous = 0 if current is None else current.signed.version
        version = metadata.next_version(previous, now)
        expires = now.replace(microsecond=0) + self._validity.fleet
        signed = metadata.build_fleet(version, expires, fleet, content)
        key_ids = (targets or self.targets).get_delegated_role(role).keyids
        return metadata.sign(signed, self._signers_of(role, key_ids))

    def _top_signers(self, role: str) -> Sequence[Signer]:
        signers = self._signers_of(role, self._top_key_ids(role))
        if self._coming is not None:
            new = self._coming.roles[role].keyids
            if not any(one.public_key.keyid in new for one in signers):
                self._signers_of(role, new)  # says which key is missing
        return signers

    def _top_key_ids(self, role: str) -> list[str]:
        coming = [] if self._coming is None else self._coming.roles[role].keyids
        return [*self._root.signed.roles[role].keyids, *coming]

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
            self._top_signers("snapshot"),
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
            self._top_signers("timestamp"),
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
        self._verify(name, (document.signed,), "root", document)
        return document, folder / name

    def _load_targets(self) -> dict[str, Metadata[Targets]]:
        top = self._load_listed("targets")
        self._verify("targets", self._roots, "targets", top)
        documents = {"targets": top}
        for role in metadata.delegated_names(top.signed):
            documents[role] = self._load_listed(role)
            self._verify(role, (top.signed,), role, documents[role])
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
        self._verify(name, self._roots, kind.type, document)
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

    @property
    def _roots(self) -> tuple[Root, ...]:
        coming = () if self._coming is None else (self._coming,)
        return (self._root.signed, *coming)

    def _verify(
        self,
        name: str,
        delegators: Sequence[Root | Targets],
        role: str,
        document: Metadata[_S],
    ) -> None:
        """Verify that one of ``delegators`` lets the document's signers speak."""
        problems = []
        for one in delegators:
            try:
                one.verify_delegate(role, document.signed_bytes, document.signatures)
            except TufError as error:
                problems.append(error)
        if len(problems) == len(delegators):
            raise RepositoryError(
                f"{self._folder / 'metadata'}: {name}: the signature of role {role}"
                f" does not verify: {problems[0]}",
                next_step="finish a change of keys with `edge-fleet keys collect`, or"
                " restore the tuf folder from its backup",
            ) from problems[0]
