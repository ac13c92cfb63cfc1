# SPDX-License-Identifier: Apache-2.0
"""Verified metadata: python-tuf, with a floor that it lacks.

Owns the metadata cache ``tuf/`` and ``tuf/floor.json``. python-tuf checks signatures,
versions and expiry against its cache; but the cache is not synced, and one that is lost
or cut short would accept an old repository again. The floor is synced after every
refresh, and a version below it is refused. The trust anchor is always the enrolled
root, never the cache. It downloads metadata and ``desired.json``, no bundle.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import urllib3
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from edge_agent.access import HttpAccess
from edge_agent.device import MODELS_ROLE, ed25519_keys
from edge_agent.errors import StateError, UpdateError, UpdateTrustError
from edge_agent.ota.resolve import MAX_DESIRED_BYTES, UpdateRejectedError
from edge_agent.store import write_atomic
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EdgeError

DESIRED_FLOOR: Final = "desired"
_ROLE_FILES = ("timestamp", "snapshot", "targets", MODELS_ROLE)
_CHUNK_BYTES = 64 * 1024
_BAD_STATUS = 400


class ExpiredError(UpdateError):
    """Metadata has expired, or our clock is ahead; time heals both."""

    code = "agent.update.expired"


class TufClient:
    """The verified view of one server's repository.

    Args:
        state_dir: The agent's state folder.
        enrolment: Whose root is trusted, and where the server is.
        access: How to reach it.
    """

    def __init__(
        self, state_dir: Path, enrolment: Enrolment, access: HttpAccess
    ) -> None:
        self._folder = state_dir / "tuf"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._floor = Floor(self._folder / "floor.json")
        self._enrolment = enrolment
        self._fetcher = _Fetcher(access)
        self._targets_url = f"{access.base}/tuf/targets/"
        self._metadata_url = f"{access.base}/tuf/metadata/"
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
                bootstrap=self._enrolment.tuf_root,
            )
            updater.refresh()
            self._updater = updater
        self._floor.check_and_raise(self._versions(_ROLE_FILES[:3]))

    def find_target(self, path: str) -> TargetFile | None:
        """Return the verified entry of a target, or None where none is listed.

        Raises:
            EdgeError: As ``refresh``.
        """
        if self._updater is None:
            self.refresh()
        with _NamedErrors(path):
            return self._require().get_targetinfo(path)

    def fetch_desired(self) -> bytes | None:
        """Return the verified bytes of this fleet's desired document, if it has one.

        Raises:
            EdgeError: As ``refresh``.
        """
        fleet = self._enrolment.fleet
        target = self.find_target(f"fleets/{fleet}/desired.json")
        if target is None:
            return None
        self._floor.check_and_raise(self._versions((f"fleet-{fleet}",)))
        if target.length > MAX_DESIRED_BYTES:
            raise UpdateError(
                f"desired.json: expected at most {MAX_DESIRED_BYTES} bytes, "
                f"found {target.length}"
            )
        with _NamedErrors("desired.json"):
            data = self._fetcher.download_bytes(self.target_url(target), target.length)
            target.verify_length_and_hashes(io.BytesIO(data))
        return data

    def find_model(self, path: str) -> TargetFile:
        """Return the builder's entry of a bundle.

        Raises:
            UpdateRejectedError: The builder does not list it.
            EdgeError: As ``refresh``.
        """
        target = self.find_target(path) if path.startswith("models/") else None
        if target is None:
            raise UpdateRejectedError(
                f"{path}: expected a release that the builder lists, found none",
                next_step="publish it, or roll out one that is listed",
            )
        self._floor.check_and_raise(self._versions((MODELS_ROLE,)))
        return target

    def target_url(self, target: TargetFile) -> str:
        """Return where the bytes of a target are (consistent snapshot)."""
        folder, _, name = target.path.rpartition("/")
        return f"{self._targets_url}{folder}/{target.hashes['sha256']}.{name}"

    def model_keys(self) -> list[bytes]:
        """Return the builder's raw Ed25519 keys, which sign bundles too."""
        targets = Metadata[Targets].from_file(str(self._folder / "targets.json"))
        return ed25519_keys(targets.signed)

    def check_desired_version(self, version: int) -> None:
        """Refuse a desired document older than one that was acted on.

        Raises:
            UpdateTrustError: It is below the floor.
        """
        self._floor.check({DESIRED_FLOOR: version})

    def raise_desired_version(self, version: int) -> None:
        """Make durable that this desired document was acted on."""
        self._floor.check_and_raise({DESIRED_FLOOR: version})

    def _require(self) -> Updater:
        if self._updater is None:
            raise UpdateError("metadata: not refreshed")
        return self._updater

    def _versions(self, roles: tuple[str, ...]) -> dict[str, int]:
        found = {}
        for role in roles:
            document: Metadata[Any] = Metadata.from_file(
                str(self._folder / f"{role}.json")
            )
            found[role] = document.signed.version
        return found


class Floor:
    """The highest versions ever accepted, on disk.

    Raises:
        StateError: The file is not ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: dict[str, int] = {}
        if path.exists():
            try:
                wire = json.loads(path.read_bytes())
                self._versions = {str(k): int(v) for k, v in wire.items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise StateError(
                    f"{path}: malformed: {error}",
                    next_step="delete it if you trust the server right now",
                ) from error

    def check(self, versions: dict[str, int]) -> None:
        """Refuse versions below the floor.

        Raises:
            UpdateTrustError: One is.
        """
        for role, version in versions.items():
            floor = self._versions.get(role, 0)
            if version < floor:
                raise UpdateTrustError(
                    f"metadata of {role}: expected version {floor} or newer, "
                    f"found {version}",
                    next_step="somebody offers an old repository; check the server",
                )

    def check_and_raise(self, versions: dict[str, int]) -> None:
        """Refuse versions below the floor, else make them the floor.

        Raises:
            UpdateTrustError: One is.
        """
        self.check(versions)
        if any(self._versions.get(role) != one for role, one in versions.items()):
            self._versions |= versions
            write_atomic(self._path, json.dumps(self._versions, indent=1).encode())


class _Fetcher(FetcherInterface):
    """python-tuf's network seam over our pinned pool."""

    def __init__(self, access: HttpAccess) -> None:
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
    (OSError, UpdateError, "check the disk of the device"),
)
