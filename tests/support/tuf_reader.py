# SPDX-License-Identifier: Apache-2.0
"""A device's view of a TUF repository: python-tuf's own client, without a network."""

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater
from tuf.ngclient.config import UpdaterConfig

_BASE = "file-server://tuf/"


class FolderFetcher(FetcherInterface):
    """Answers requests from a ``tuf`` folder as a file server would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / url.removeprefix(_BASE)
        if not path.is_file():
            raise DownloadHTTPError(f"{url}: not found", 404)
        yield path.read_bytes()


class TufReader:
    """A device that keeps its trusted metadata in ``cache`` between refreshes."""

    def __init__(self, folder: Path, cache: Path, root: bytes) -> None:
        self._fetcher = FolderFetcher(folder)
        self._cache = cache
        self._root = root
        cache.mkdir(parents=True, exist_ok=True)

    def read(self, target_path: str) -> bytes | None:
        """Refresh, then return a verified target, None if it is not listed."""
        updater = Updater(
            str(self._cache),
            _BASE + "metadata/",
            str(self._cache),
            _BASE + "targets/",
            fetcher=self._fetcher,
            config=UpdaterConfig(),
            bootstrap=self._root,
        )
        updater.refresh()
        target = updater.get_targetinfo(target_path)
        if target is None:
            return None
        place = self._cache / "download"
        updater.download_target(target, str(place))
        return place.read_bytes()
