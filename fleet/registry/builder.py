# SPDX-License-Identifier: Apache-2.0
"""Signing releases where the builder's key is: the client's side of ``model publish``.

Owns what the command line does with the key: check the bundle's signature, extend the
``models`` document, sign, upload. The key never leaves this process, and nothing is
signed that was not read from a bundle signed by the same key, or found in a document
signed by it. A server could answer with an older document of ours; devices refuse it,
because they have seen a newer one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, TargetFile, Targets

from edge_contract.bundle import Bundle
from fleet.errors import NotFoundError
from fleet.registry import metadata, release
from fleet.registry.errors import ReleaseRefusedError, RepositoryError
from fleet.registry.keyring import load_signer


class ModelsApi(Protocol):
    """The part of the server's client that a builder needs."""

    def get_bytes(self, path: str) -> bytes:
        """Return the body of a GET."""
        ...

    def put_bytes(self, path: str, content: bytes) -> Any:
        """PUT bytes; return the answer's document."""
        ...


@dataclass(frozen=True)
class Published:
    """What came of ``publish_bundle``.

    Attributes:
        release: The release as listed.
        is_new: False if the same bundle had been published before.
    """

    release: release.Release
    is_new: bool


class Builder:
    """The holder of the ``models`` key, talking to one server.

    Args:
        api: The server.
        signer: The builder's key.
        now: The present time, with its zone.
    """

    def __init__(
        self, api: ModelsApi, signer: CryptoSigner, now: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._signer = signer
        self._now = now

    def publish_bundle(self, path: Path) -> Published:
        """Publish the bundle at ``path`` as the next release of its model.

        Raises:
            BundleUnsignedError: It carries no signature.
            BundleSignatureError: Another key than the builder's signed it.
            BundleError: It is not a whole bundle.
            ReleaseRefusedError: The server's current document is not ours.
        """
        public = bytes.fromhex(self._signer.public_key.keyval["public"])
        with Bundle.open(path) as bundle:
            bundle.verify_signature([public])
            bundle.check_files()
            manifest = bundle.manifest
        content = path.read_bytes()
        current = self._fetch_current()
        for one in release.list_releases(current):
            if one.digest == manifest.digest:
                return Published(one, is_new=False)
        counter = release.highest_counters(current).get(manifest.name, 0) + 1
        sha256 = hashlib.sha256(content).hexdigest()
        target = release.describe_target(manifest, counter, len(content), sha256)
        self._api.put_bytes(f"/models/bundles/{sha256}", content)
        self._sign_and_send(current, {**current.targets, target.path: target})
        return Published(release.read_release(target), is_new=True)

    def withdraw(self, name: str, counter: int) -> release.Release:
        """Take a release back: no device installs it from now on.

        Raises:
            NotFoundError: It is not listed.
        """
        current = self._fetch_current()
        path = release.target_path(name, counter)
        target = current.targets.get(path)
        if target is None:
            raise NotFoundError(
                f"model {name}: release {counter} is not listed",
                next_step="`edge-fleet model list` shows what is",
            )
        rest = {key: one for key, one in current.targets.items() if key != path}
        self._sign_and_send(current, rest)
        return release.read_release(target)

    def renew(self) -> datetime:
        """Sign the list again as it is; return until when it now holds."""
        current = self._fetch_current()
        return self._sign_and_send(current, current.targets)

    def _fetch_current(self) -> Targets:
        document = release.parse_models(self._api.get_bytes("/models/metadata"))
        if not _is_signed_by(document, self._signer.public_key):
            raise ReleaseRefusedError(
                "models: expected the server's list to be signed by the key"
                f" {self._signer.public_key.keyid[:12]}, found the signatures of"
                f" {', '.join(document.signatures) or 'nobody'}",
                next_step="use this server's builder key, see `edge-fleet keys status`",
            )
        return document.signed

    def _sign_and_send(
        self, current: Targets, listed: Mapping[str, TargetFile]
    ) -> datetime:
        now = self._now()
        successor = release.build_successor(
            current,
            listed,
            now.replace(microsecond=0) + metadata.Validity().models,
            metadata.next_version(current.version, now),
        )
        document: Metadata[Targets] = metadata.sign(successor, self._signer)
        self._api.put_bytes("/models/metadata", metadata.encode(document))
        return successor.expires


def read_builder_key(path: Path) -> CryptoSigner:
    """Load the builder's key file.

    Raises:
        RepositoryError: It cannot be read or is not an Ed25519 key.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepositoryError(
            f"{path}: expected the builder's private key, cannot read it:"
            f" {error.strerror}",
            next_step="name the key file that `edge-fleet init` printed",
        ) from error
    return load_signer(data, str(path))


def _is_signed_by(document: Metadata[Targets], key: Key) -> bool:
    signature = document.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, document.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
