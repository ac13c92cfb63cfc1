# SPDX-License-Identifier: Apache-2.0
"""A repository in a folder, read as if over HTTP: an update without a network.

Owns the answers that a file server would give: whole files, ranges, 404 and 416. What
is in the folder is believed no more than what a server sends; see ``trusted``. Names
that lead out of the folder, and what is no plain file, are not there.
"""

import os
import urllib.parse
from pathlib import Path
from typing import BinaryIO, Final

import urllib3

BASE: Final = "file://repository"
_PREFIX: Final = f"{BASE}/tuf/"
_OK = 200
_PARTIAL = 206
_ABSENT = 404
_UNSATISFIABLE = 416


def is_repository(folder: Path) -> bool:
    """Return whether a folder is what ``edge-fleet export`` writes."""
    return (folder / "metadata").is_dir()


class FolderAccess:
    """Requests to a folder; an ``update.ServerAccess``.

    Args:
        folder: With ``metadata/`` and ``targets/``.
    """

    def __init__(self, folder: Path) -> None:
        self.base = BASE
        self._root = folder.resolve()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Answer one GET with the file of that name, from a byte on if asked so."""
        del method, body
        try:
            stream = self._find(url).open("rb")
        except (OSError, ValueError):
            return _respond(_ABSENT)
        length = os.fstat(stream.fileno()).st_size
        start = _start((headers or {}).get("Range"))
        if start == 0:
            return _respond(_OK, stream, {"Content-Length": str(length)})
        if start >= length:
            stream.close()
            return _respond(_UNSATISFIABLE)
        stream.seek(start)
        found = {
            "Content-Range": f"bytes {start}-{length - 1}/{length}",
            "Content-Length": str(length - start),
        }
        return _respond(_PARTIAL, stream, found)

    def _find(self, url: str) -> Path:
        name = urllib.parse.unquote(url.removeprefix(_PREFIX))
        path = (self._root / name.lstrip("/")).resolve()
        if not path.is_relative_to(self._root) or not path.is_file():
            raise FileNotFoundError(url)
        return path


def _start(wanted: str | None) -> int:
    """Return where a range begins: those that ``fetch`` asks for have no end."""
    return 0 if wanted is None else int(wanted.removeprefix("bytes=").rstrip("-"))


def _respond(
    status: int, stream: BinaryIO | None = None, headers: dict[str, str] | None = None
) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(
        body=b"" if stream is None else stream,
        headers=headers,
        status=status,
        preload_content=False,
    )
