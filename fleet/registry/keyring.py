# SPDX-License-Identifier: Apache-2.0
"""The keys folder: which keys of which role are at hand on this machine.

Owns ``keys/offline`` (root, targets, models: never read by the server, and better moved
to another machine) and ``keys/online`` (snapshot, timestamp and one key a fleet). A key
lies there as ``ROLE.pem`` or ``ROLE.ID.pem``, or as a reference, ``ROLE.ID.uri``, to
where it is. Which of them count is what the metadata says, never the file's name: so
keys can be replaced with nothing to rename. It signs nothing; see ``key_reference``.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Signer

from fleet.registry.errors import KeyUnusableError
from fleet.registry.files import PRIVATE_MODE, move_file, save_bytes
from fleet.registry.key_reference import (
    FILE,
    KeyReference,
    find_key,
    make_key_file,
    public_pem,
)

OFFLINE_ROLES = ("root", "targets", "models")
ONLINE_ROLES = ("snapshot", "timestamp")
_PRIVATE_FOLDER_MODE = 0o700
_ID_DIGITS = 12


def fleet_role(fleet: str) -> str:
    """Return the name of the TUF role that speaks for ``fleet``."""
    return f"fleet-{fleet}"


@dataclass(frozen=True)
class Keyring:
    """The keys below one ``keys`` folder.

    Attributes:
        folder: The folder that holds ``offline`` and ``online``.
    """

    folder: Path

    def path(self, role: str) -> Path:
        """Return where the first private key of ``role`` is made."""
        return self._place(role) / f"{role}.pem"

    @property
    def builder_public(self) -> Path:
        """Where the public half of the ``models`` key lies."""
        return self.folder / "models.pub"

    def references(self, role: str) -> list[KeyReference]:
        """Return all keys of ``role`` at hand, whether they count or not.

        Raises:
            RepositoryError: A file is no key.
        """
        return [reference for _, reference in self._files(role)]

    def places(self, role: str) -> list[str]:
        """Return where private keys of ``role`` are: ``file``, ``hsm``, ...

        Reads no private key, so that the server may ask.
        """
        found = set()
        for path in self._place(role).glob(f"{role}.*"):
            if path.suffix == ".pem":
                found.add(FILE)
            elif path.suffix == ".uri":
                reference = KeyReference.decode(path.read_bytes(), str(path))
                found |= {reference.place} if reference.can_sign else set()
        return sorted(found)

    def find(self, role: str, key_ids: Collection[str]) -> list[KeyReference]:
        """Return the keys of ``role`` at hand that are among ``key_ids``."""
        return [
            one for one in self.references(role) if one.public.keyid in set(key_ids)
        ]

    def signers(self, role: str, key_ids: Collection[str]) -> list[Signer]:
        """Return what signs for ``role`` with any of ``key_ids``.

        Raises:
            KeyUnusableError: None of them is at hand.
        """
        found = [one.open() for one in self.find(role, key_ids) if one.can_sign]
        if not found:
            wanted = ", ".join(sorted(one[:_ID_DIGITS] for one in key_ids))
            raise KeyUnusableError(
                f"role {role}: expected a private key of {wanted} in"
                f" {self._place(role)}, found none",
                next_step="put it back for the time of this command, or restore the"
                " keys folder from its backup",
            )
        return found

    def ensure(self, role: str) -> KeyReference:
        """Return the first key of ``role``, making one if there is none at all."""
        found = self.references(role)
        if not found:
            self._make_place(role)
            make_key_file(self.path(role))
            found = self.references(role)
        return found[0]

    def make(self, role: str) -> KeyReference:
        """Make one more key of ``role``: its name carries its id."""
        self._make_place(role)
        part = self._place(role) / f".new-{role}.pem"
        make_key_file(part)
        reference = find_key(f"{FILE}:{part}")
        path = self._named(role, reference, "pem")
        move_file(part, path)
        return find_key(f"{FILE}:{path}")

    def add(self, role: str, reference: KeyReference) -> None:
        """Note durably where a key of ``role`` is, unless it lies here itself."""
        if reference.can_sign and not any(
            one.public.keyid == reference.public.keyid for one in self.references(role)
        ):
            self._make_place(role)
            path = self._named(role, reference, "uri")
            save_bytes(path, reference.encode(), mode=PRIVATE_MODE)

    def prune(self, role: str, key_ids: Collection[str]) -> list[Path]:
        """Delete the keys and references of ``role`` that count no more.

        A device that has not heard of the new keys still trusts the old ones: they
        are a danger as long as they exist. Only files of this folder are deleted.
        """
        stale = [
            path
            for path, reference in self._files(role)
            if reference.public.keyid not in key_ids
        ]
        for path in stale:
            path.unlink(missing_ok=True)
        return stale

    def save_builder_public(self, reference: KeyReference) -> None:
        """Write the public half of the ``models`` key beside the folders."""
        pem = public_pem(reference.public)
        if not self.builder_public.exists() or self.builder_public.read_bytes() != pem:
            save_bytes(self.builder_public, pem)

    def _place(self, role: str) -> Path:
        return self.folder / ("offline" if role in OFFLINE_ROLES else "online")

    def _make_place(self, role: str) -> None:
        self._place(role).mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)

    def _named(self, role: str, reference: KeyReference, suffix: str) -> Path:
        short = reference.public.keyid[:_ID_DIGITS]
        return self._place(role) / f"{role}.{short}.{suffix}"

    def _files(self, role: str) -> Iterator[tuple[Path, KeyReference]]:
        for path in sorted(self._place(role).glob(f"{role}.*")):
            if path.suffix == ".pem":
                yield path, find_key(f"{FILE}:{path}")
            elif path.suffix == ".uri":
                yield path, KeyReference.decode(path.read_bytes(), str(path))
