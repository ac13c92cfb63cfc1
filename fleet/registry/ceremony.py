# SPDX-License-Identifier: Apache-2.0
"""A root that is being agreed on: proposed, signed by several people, adopted.

Owns ``next.root.json`` in the TUF folder: a root document with the signatures that were
collected so far. Everything about a change of keys is in that one file, each step is
durable, and every step may be done again; until the last one the root in force stays.
What an adopted root makes of the other documents is ``tuf_repository``'s and
``setup``'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root

from fleet.registry import metadata
from fleet.registry.errors import CeremonyError
from fleet.registry.files import remove_file, save_bytes
from fleet.registry.key_reference import KeyReference

_NAME = "next.root.json"
MAX_ROOT_BYTES = 512_000  # python-tuf's limit, so what a device accepts


@dataclass(frozen=True)
class Missing:
    """Signatures that a proposed root still needs.

    Attributes:
        count: How many.
        key_ids: Any of these keys will do.
    """

    count: int
    key_ids: tuple[str, ...]


class Ceremony:
    """The proposed root of one TUF folder.

    Args:
        folder: The ``tuf`` folder.
        current: The root in force; None before the first.

    Raises:
        CeremonyError: The proposal is damaged, or skips a version.
    """

    def __init__(self, folder: Path, current: Root | None) -> None:
        self.path = folder / _NAME
        self._current = current
        self.proposal = read_root(self.path) if self.path.exists() else None
        version = 0 if current is None else current.version
        if self.proposal and self.proposal.signed.version not in {version, version + 1}:
            raise CeremonyError(
                f"{self.path}: expected the successor of root {version}, found root"
                f" {self.proposal.signed.version}",
                next_step="give it up with `edge-fleet keys abandon`",
            )

    @property
    def is_adopted(self) -> bool:
        """Whether the proposal is the root in force already: a crash came after."""
        current = self._current
        return (
            self.proposal is not None
            and current is not None
            and self.proposal.signed.version == current.version
        )

    def propose(self, root: Root) -> None:
        """Write down a new root, durably and unsigned.

        Raises:
            CeremonyError: Another one waits for signatures.
        """
        if self.proposal is not None:
            if self.proposal.signed == root:
                return
            raise CeremonyError(
                f"{self.path}: another root waits for signatures",
                next_step="finish it with `edge-fleet keys collect`, or give it up"
                " with `edge-fleet keys abandon`",
            )
        self._save(Metadata(root))

    def sign(self, references: Sequence[KeyReference]) -> None:
        """Add the signatures of the keys at hand that count for this root."""
        document = self._expect()
        wanted = {key for one in self.missing() for key in one.key_ids}
        for one in references:
            if one.can_sign and one.public.keyid in wanted - set(document.signatures):
                metadata.add_signature(document, one.open())
        self._save(document)

    def merge(self, path: Path) -> None:
        """Take over the signatures of a copy that somebody signed.

        Raises:
            CeremonyError: The copy is of another document.
        """
        document, copy = self._expect(), read_root(path)
        if copy.signed_bytes != document.signed_bytes:
            raise CeremonyError(
                f"{path}: expected a signed copy of {self.path.name}, found another"
                f" root (version {copy.signed.version}, until"
                f" {copy.signed.expires:%Y-%m-%d})",
                next_step=f"have {self.path} signed",
            )
        keys = document.signed.keys | (self._current.keys if self._current else {})
        for keyid, signature in copy.signatures.items():
            try:
                keys[keyid].verify_signature(signature, document.signed_bytes)
            except (KeyError, UnverifiedSignatureError, VerificationError) as error:
                raise CeremonyError(
                    f"{path}: expected signatures of root keys, found one of"
                    f" {keyid[:12]} that does not count: {type(error).__name__}",
                    next_step="sign a fresh copy with `edge-fleet keys sign-root`",
                ) from error
            document.signatures[keyid] = signature
        self._save(document)

    def missing(self) -> tuple[Missing, ...]:
        """Return what the old root's keys and the new one's have yet to sign."""
        document = self._expect()
        previous = None if self.is_adopted else self._current
        result = document.signed.get_root_verification_result(
            previous, document.signed_bytes, document.signatures
        )
        needs = dict.fromkeys(
            Missing(one.missing, tuple(sorted(one.unsigned)))
            for one in (result.first, result.second)
            if one.missing
        )
        return tuple(needs)

    def abandon(self) -> None:
        """Give the proposal up."""
        remove_file(self.path)
        self.proposal = None

    def _expect(self) -> Metadata[Root]:
        if self.proposal is None:
            raise CeremonyError(
                f"{self.path}: expected a proposed root, found none",
                next_step="begin with `edge-fleet keys rotate`",
            )
        return self.proposal

    def _save(self, document: Metadata[Root]) -> None:
        save_bytes(self.path, metadata.encode(document))
        self.proposal = document


def read_root(path: Path) -> Metadata[Root]:
    """Read a root document, trusting nothing of it yet.

    Raises:
        CeremonyError: It is too long or no such document.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(MAX_ROOT_BYTES + 1)
    problem = f"more than {MAX_ROOT_BYTES} bytes"
    cause: Exception | None = None
    if len(data) <= MAX_ROOT_BYTES:
        try:
            document: Metadata[Any] = Metadata.from_bytes(data)
        except TufError as error:
            problem, cause = str(error), error
        else:
            if isinstance(document.signed, Root):
                return document
            problem = f"a document of type {document.signed.type}"
    raise CeremonyError(
        f"{path}: expected a root document, found {problem}",
        next_step="name a copy of the server's tuf/next.root.json",
    ) from cause
