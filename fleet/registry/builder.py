# SPDX-License-Identifier: Apache-2.0
"""Signing releases where the builder's key is: the client's side of ``model publish``.

Owns what the command line does with the key: check the bundle's signature, extend the
``models`` document, sign, upload. The key never leaves this process, and nothing is
signed that was not read from a bundle signed by the same key, or found in a document
signed by it. A server could answer with an older document of ours; devices refuse it,
because they have seen a newer one.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, TargetFile, Targets

from edge_contract.bundle import Bundle
from fleet.errors import NotFoundError
from fleet.registry import metadata, release
from fleet.registry.errors import ReleaseRefusedError


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
        signers: The builder's key; while it is replaced, the new one too.
        now: The present time, with its zone.
    """

    def __init__(
        self, api: ModelsApi, signers: Sequence[Signer], now: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._signers = signers
        self._now = now

    def publish_bundle(self, path: Path, also: Sequence[Key] = ()) -> Published:
        """Publish the bundle at ``path`` as the next release of its model.

        Args:
            path: The bundle.
            also: Keys whose bundles the builder vouches for from now on.

        Raises:
            BundleUnsignedError: It carries no signature.
            BundleSignatureError: Another key than the builder's signed it.
            BundleError: It is not a whole bundle.
            ReleaseRefusedError: The server's current document is not ours.
        """
        current = self._fetch_current()
        trusted = release.raw_ed25519([*self._public_keys(), *also])
        trusted += [bytes.fromhex(one) for one in release.bundle_keys(current)]
        with Bundle.open(path) as bundle:
            bundle.verify_signature(trusted)
            bundle.check_files()
            manifest = bundle.manifest
        content = path.read_bytes()
        for one in release.list_releases(current):
            if one.digest == manifest.digest:
                return Published(one, is_new=False)
        counter = release.highest_counters(current).get(manifest.name, 0) + 1
        sha256 = hashlib.sha256(content).hexdigest()
        target = release.describe_target(manifest, counter, len(content), sha256)
        self._api.put_bytes(f"/models/bundles/{sha256}", content)
        listed = {**current.targets, target.path: target}
        self._sign_and_send(current, listed, also)
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
        ours = self._public_keys()
        if not any(_is_signed_by(document, key) for key in ours):
            raise ReleaseRefusedError(
                "models: expected the server's list to be signed by the key"
                f" {ours[0].keyid[:12]}, found the signatures of"
                f" {', '.join(document.signatures) or 'nobody'}",
                next_step="use this server's builder key, see `edge-fleet keys status`",
            )
        return document.signed

    def _public_keys(self) -> list[Key]:
        return [one.public_key for one in self._signers]

    def _sign_and_send(
        self,
        current: Targets,
        listed: Mapping[str, TargetFile],
        also: Sequence[Key] = (),
    ) -> datetime:
        now = self._now()
        successor = release.build_successor(
            current,
            listed,
            now.replace(microsecond=0) + metadata.Validity().models,
            metadata.next_version(current.version, now),
        )
        # While two keys sign, one of them is on its way out: its bundles stay.
        own = self._public_keys() if len(self._signers) > 1 else []
        release.trust_bundles_of(successor, [*own, *also])
        document: Metadata[Targets] = metadata.sign(successor, self._signers)
        self._api.put_bytes("/models/metadata", metadata.encode(document))
        return successor.expires


def _is_signed_by(document: Metadata[Targets], key: Key) -> bool:
    signature = document.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, document.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
