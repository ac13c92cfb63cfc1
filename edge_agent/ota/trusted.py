# SPDX-License-Identifier: Apache-2.0
"""A TUF repository as this device may believe it: python-tuf, above a durable floor.

Owns the metadata cache and what python-tuf does not do: a floor that survives a lost
cache, errors with a next step, and the bound on what is read. The trust anchor is
always the root that the caller gives, never the cache. It knows neither fleets nor
models; see ``tuf_client``.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import urllib3
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import (
    Metadata,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater

from edge_agent.errors import UpdateError, UpdateTrustError
from edge_agent.ota.fetch import Access
from edge_agent.ota.floor import ROOT, Floor, Seen
from edge_contract.errors import EdgeError

SNAPSHOT: Final = Snapshot.type
TARGETS: Final = Targets.type
TIMESTAMP: Final = Timestamp.type
_CHUNK_BYTES: Final = 64 * 1024
_BAD_STATUS: Final = 400


class ExpiredError(UpdateError):
    """Metadata has expired, or our clock is ahead; time heals both."""

    code = "agent.update.expired"


class TrustedRepository:
    """The verified view of one repository.

    Args:
        folder: Where verified metadata and the floor are kept; made if missing.
        root: The root document to start from, as it was enrolled.
        metadata_url: Address of the metadata, ending in a slash.
        targets_url: Address of the target files, ending in a slash.
        access: Sends the requests.
    """

    def __init__(
        self,
        folder: Path,
        root: bytes,
        metadata_url: str,
        targets_url: str,
        access: Access,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._floor = Floor(folder / "floor")
        self._root = root
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._fetcher = _Fetcher(access)
        self._updater: Updater | None = None

    def refresh(self) -> None:
        """Fetch and verify the newest metadata, and raise the floor.

        Raises:
            UpdateTrustError: A signature, hash or version is wrong.
            ExpiredError: What the server has is out of date by our clock.
            UpdateError: The server cannot be reached.
        """
        with _NamedErrors("metadata"):
            updater = Updater(
                str(self._folder),
                self._metadata_url,
                fetcher=self._fetcher,
                bootstrap=self._root,
            )
            updater.refresh()
            root = self.read(ROOT, Root)
            found = {
                ROOT: Seen(root.version, "", root.version),
                TIMESTAMP: self._seen(TIMESTAMP, root, root.roles[TIMESTAMP]),
                SNAPSHOT: self._seen(SNAPSHOT, root, root.roles[SNAPSHOT]),
                TARGETS: self._seen(TARGETS, root, root.roles[TARGETS]),
            }
        self._floor.check_and_raise(found)
        self._updater = updater

    def find_target(self, path: str) -> TargetFile | None:
        """Return the verified entry of a target, or None where none is listed.

        Raises:
            EdgeError: As ``refresh``.
        """
        if self._updater is None:
            self.refresh()
        if self._updater is None:
            raise UpdateError("metadata: not refreshed")
        with _NamedErrors(path):
            return self._updater.get_targetinfo(path)

    def guard(self, role: str, version: int | None = None) -> Seen:
        """Return what is to be held against the floor for a delegated role.

        Args:
            role: A role that the top-level targets delegate to.
            version: A version inside what the role signs; else its document's.

        Raises:
            EdgeError: The role is not delegated to, or its document is damaged.
        """
        with _NamedErrors(role):
            root: Root = self.read(ROOT, Root)
            keys = self.read(TARGETS, Targets).get_delegated_role(role)
        seen = self._seen(role, root, keys)
        return seen if version is None else replace(seen, version=version)

    def check_floor(self, role: str, seen: Seen) -> None:
        """Refuse what is below the floor.

        Raises:
            UpdateTrustError: It is.
        """
        self._floor.check({role: seen})

    def raise_floor(self, role: str, seen: Seen) -> None:
        """Refuse what is below the floor, else make it the floor, durably.

        Raises:
            UpdateTrustError: It is.
        """
        self._floor.check_and_raise({role: seen})

    def read_target(self, target: TargetFile, max_bytes: int) -> bytes:
        """Return the verified bytes of a small target.

        Raises:
            UpdateError: It is longer than ``max_bytes``, or cannot be fetched.
            UpdateTrustError: The bytes are not those that were signed.
        """
        if target.length > max_bytes:
            raise UpdateError(
                f"{target.path}: expected at most {max_bytes} bytes, "
                f"found {target.length}"
            )
        with _NamedErrors(target.path):
            data = self._fetcher.download_bytes(self.target_url(target), target.length)
            target.verify_length_and_hashes(io.BytesIO(data))
        return data

    def target_url(self, target: TargetFile) -> str:
        """Return where the bytes of a target are (consistent snapshot)."""
        folder, slash, name = target.path.rpartition("/")
        _, digest = pick_digest(target)
        return f"{self._targets_url}{folder}{slash}{digest}.{name}"

    def read(self, role: str, kind: type[Any]) -> Any:
        """Return the verified document of a role, as ``refresh`` left it.

        Raises:
            EdgeError: There is none.
        """
        with _NamedErrors(role):
            path = self._folder / f"{role}.json"
            document: Metadata[Any] = Metadata.from_file(str(path))
        if not isinstance(document.signed, kind):
            raise UpdateTrustError(f"metadata of {role}: found {document.signed.type}")
        return document.signed

    def _seen(self, role: str, root: Root, keys: Role) -> Seen:
        version = self.read(role, object).version
        return Seen(version, _name_keys(root, keys), root.version)


def pick_digest(target: TargetFile) -> tuple[str, str]:
    """Return the algorithm and digest by which a target is named and checked."""
    algorithm = "sha256" if "sha256" in target.hashes else min(target.hashes)
    return algorithm, target.hashes[algorithm]


def _name_keys(root: Root, role: Role) -> str:
    """Name the keys that vouch for a role: its own, and the snapshot's."""
    keys = [*sorted(role.keyids), "/", *sorted(root.roles[SNAPSHOT].keyids)]
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]


class _Fetcher(FetcherInterface):
    """python-tuf's network seam over our own access."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def _fetch(self, url: str) -> Iterator[bytes]:
        response = self._access.request("GET", url)
        if response.status >= _BAD_STATUS:
            response.close()
            raise tuf_errors.DownloadHTTPError(
                f"HTTP status {response.status}", response.status
            )
        return self._chunks(response)

    def _chunks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from response.stream(_CHUNK_BYTES, decode_content=False)
        except urllib3.exceptions.TimeoutError as error:
            raise tuf_errors.SlowRetrievalError from error
        except urllib3.exceptions.HTTPError as error:
            raise tuf_errors.DownloadError(str(error)) from error
        finally:
            response.close()


class _NamedErrors:
    """Maps python-tuf's errors to ours, by table."""

    def __init__(self, thing: str) -> None:
        self._thing = thing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, EdgeError):
            return
        for foreign, own, next_step in _TABLE:
            if isinstance(error, foreign):
                message = f"{self._thing}: {type(error).__name__}: {error}"
                raise own(message, next_step=next_step) from error


_TABLE: Final[tuple[tuple[type[BaseException], type[EdgeError], str], ...]] = (
    (
        tuf_errors.ExpiredMetadataError,
        ExpiredError,
        "check the device's clock, and that the server renews its metadata",
    ),
    (
        tuf_errors.RepositoryError,
        UpdateTrustError,
        "check the server; nothing was installed",
    ),
    (tuf_errors.DownloadError, UpdateError, "the device tries again later"),
    (ValueError, UpdateTrustError, "check the server; nothing was installed"),
    (OSError, UpdateError, "check the disk of the device"),
)
