# SPDX-License-Identifier: Apache-2.0
"""The ``file`` sink: one JSON line an inference.

Owns the form of a line and its buffering: lines reach the file once a second and at the
end. It never stops inference: while the file refuses, lines are dropped and counted.
"""

import json
import threading
import time
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.errors import SinkError
from edge_agent.flow import Result

FLUSH_SECONDS: Final = 1.0
MAX_BUFFER_BYTES: Final = 256 * 1024
_DIGITS: Final = 6


class FileSink:
    """Appends results to a file of JSON lines.

    Args:
        path: Made if missing; its folder must exist.

    Raises:
        SinkError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._buffer: list[bytes] = []
        self._size = 0
        self._due = time.monotonic() + FLUSH_SECONDS
        self.dropped = 0
        try:
            self._stream = _open_lines(path)
        except OSError as error:
            msg = f"sink {path}: cannot be opened: {error.strerror}"
            raise SinkError(msg, next_step="check the path of the sink") from error

    def write(self, result: Result) -> None:
        """Take one result; see ``Sink.write``."""
        line = format_result(result)
        with self._lock:
            self._buffer.append(line)
            self._size += len(line)
            if self._size >= MAX_BUFFER_BYTES or time.monotonic() >= self._due:
                self._write_out()

    def flush(self) -> None:
        """Write what is buffered; called about once a second.

        Raises:
            SinkError: The file refused; the lines are dropped.
        """
        with self._lock:
            self._write_out()

    def close(self) -> None:
        """Write what is buffered, and close the file.

        Raises:
            SinkError: The file refused.
        """
        with self._lock:
            try:
                self._write_out()
            finally:
                self._stream.close()

    def _write_out(self) -> None:
        lines, self._buffer, self._size = self._buffer, [], 0
        self._due = time.monotonic() + FLUSH_SECONDS
        if not lines:
            return
        data = b"".join(lines)
        written = 0
        try:
            while written < len(data):
                written += self._stream.write(data[written:])
        except OSError as error:
            self.dropped += len(lines)
            msg = f"sink {self._path}: {len(lines)} results dropped: {error.strerror}"
            raise SinkError(msg, next_step="free space on the disk") from error


def format_result(result: Result) -> bytes:
    """Return the JSON line of a result."""
    line: dict[str, object] = {"id": result.id, "t_us": result.time_us}
    if result.output is None:
        line["error"] = result.error
    else:
        line["output"] = [round(float(one), _DIGITS) for one in result.output]
        line["label_index"] = int(result.output.argmax())
    line["digest"] = result.digest
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _open_lines(path: Path) -> BinaryIO:
    """Open for appending; a line that a kill cut short is ended first."""
    stream = path.open("a+b", buffering=0)
    if stream.seek(0, 2) > 0:
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
    return stream
