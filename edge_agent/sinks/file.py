# SPDX-License-Identifier: Apache-2.0
"""The ``file`` sink: one JSON line an inference, in files that are turned over by size.

Owns whole lines: a batch that the disk refuses half-way is taken back, so that offering
it again repeats nothing, and a line that a kill cut short is ended first. Nothing is
synced: a power failure may cost what the kernel had not written yet.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from edge_agent.config.sinks import FileSinkConfig
from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.sinks.lines import format_result


class FileOutlet:
    """Appends results to a file of JSON lines.

    Args:
        config: What it was told.

    Raises:
        SinkError: The file cannot be opened.
    """

    def __init__(self, config: FileSinkConfig) -> None:
        self._path = config.path
        self._max_bytes = None if config.max_size is None else config.max_size.bytes
        self._keep = config.keep
        self._stream = self._open()

    def put(self, results: Sequence[Result]) -> int:
        """Append results; see ``Outlet.put``.

        Raises:
            SinkError: The disk refused; nothing was appended.
        """
        data = b"".join(format_result(one) for one in results)
        if self._stream.closed:
            self._stream = self._open()
        size = self._stream.seek(0, os.SEEK_END)
        if self._max_bytes is not None and 0 < size > self._max_bytes - len(data):
            self._turn_over()
            size = 0
        written = 0
        try:
            while written < len(data):
                written += self._stream.write(data[written:])
        except OSError as error:
            self._take_back(size, written)
            msg = f"sink {self._path}: cannot be written: {error.strerror}"
            raise SinkError(msg, next_step="free space on the disk") from error
        return len(results)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _open(self) -> BinaryIO:
        try:
            return _open_lines(self._path)
        except OSError as error:
            msg = f"sink {self._path}: cannot be opened: {error.strerror}"
            raise SinkError(msg, next_step="check the sink's path") from error

    def _take_back(self, size: int, written: int) -> None:
        if not written:
            return
        try:
            os.ftruncate(self._stream.fileno(), size)
        except OSError:  # no regular file: the half line is ended when it is opened
            self._stream.close()

    def _turn_over(self) -> None:
        """Let the file become ``path.1``, and so on; the oldest goes."""
        self._stream.close()
        names = [self._path, *(self._numbered(one) for one in range(1, self._keep + 1))]
        try:
            for older, newer in pairwise(reversed(names)):
                if newer.exists():
                    newer.replace(older)
        except OSError as error:
            msg = f"sink {self._path}: cannot be turned over: {error.strerror}"
            raise SinkError(msg, next_step="check the folder's permissions") from error
        self._stream = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _open_lines(path: Path) -> BinaryIO:
    """Open for appending; a line that a kill cut short is ended first."""
    stream = path.open("a+b", buffering=0)
    if stream.seekable() and stream.seek(0, os.SEEK_END) > 0:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
    return stream
