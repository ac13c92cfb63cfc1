# SPDX-License-Identifier: Apache-2.0
"""Arrays in ``.npz`` and ``.npy`` files, read block by block.

Owns reading the file with suspicion: no objects, no array that is longer than its file
says. An ``.npz`` member is read as a stream, so that ``x`` is never held whole.
"""

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from converter.data.entries import (
    BLOCK,
    SIDE_ARRAYS,
    Sides,
    Values,
    check_dtype,
    check_finite,
)
from converter.errors import ConvertDataError
from converter.tensors import Float32

_FAILURES: Final = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
_HASH_BYTES: Final = 1 << 20
_MAX_SIDE_BYTES: Final = 1 << 30
_MEMBER: Final = "x.npy"


class NpzEntries:
    """``x`` of an ``.npz`` file, or the one array of an ``.npy`` file.

    Args:
        path: The file.
        is_scaled: Whether pixels (uint8) are taken, since a scale is declared.
        group: A further side array to read, or empty.

    Raises:
        ConvertDataError: Not such a file, or not of our form.
    """

    def __init__(self, path: Path, *, is_scaled: bool = False, group: str = "") -> None:
        self.name = path.name
        self._path = path
        self.sha256 = file_digest(path)
        self._is_bare = path.suffix.lower() == ".npy"
        with self._reading():
            self.sides = Sides() if self._is_bare else self._read_sides(group)
            with self._open() as stream:
                shape, self._dtype = _read_header(stream)
        if not shape:
            msg = f"{self.name}: x: expected entries [n, ...], found one number"
            raise ConvertDataError(msg, next_step="store one entry a row")
        check_dtype(self._dtype, self.name, is_scaled=is_scaled)
        self.count, self.shape = shape[0], tuple(shape[1:])

    def blocks(self) -> Iterator[Float32]:
        """Yield blocks; see ``Entries.blocks``."""
        size = math.prod(self.shape) * self._dtype.itemsize
        with self._reading(), self._open() as stream:
            _read_header(stream)
            for start in range(0, self.count, BLOCK):
                count = min(BLOCK, self.count - start)
                data = _read_exactly(stream, count * size)
                block = np.frombuffer(data, dtype=self._dtype)
                values = block.reshape(count, *self.shape).astype(np.float32)
                yield check_finite(values, start, self.name)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            kind = "an .npy file" if self._is_bare else "an .npz file"
            msg = f"{self.name}: expected {kind} without objects, found: {error}"
            raise ConvertDataError(msg, next_step="write it with numpy") from error

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self._is_bare:
            with self._path.open("rb") as stream:
                yield stream
            return
        with zipfile.ZipFile(self._path) as archive:
            if _MEMBER not in archive.namelist():
                held = [one.removesuffix(".npy") for one in archive.namelist()]
                msg = f"{self.name}: expected an array 'x', found {sorted(held)}"
                raise ConvertDataError(msg, next_step="name the inputs 'x'")
            with archive.open(_MEMBER) as stream:
                yield stream

    def _read_sides(self, group: str) -> Sides:
        wanted = {*SIDE_ARRAYS, "features", "labels"} | ({group} if group else set())
        with zipfile.ZipFile(self._path) as archive:
            found = {
                name: _read_side(archive, f"{name}.npy")
                for name in sorted(wanted)
                if f"{name}.npy" in archive.namelist()
            }
        names = {
            key: tuple(str(one) for one in np.atleast_1d(found.pop(key, np.array([]))))
            for key in ("features", "labels")
        }
        return Sides(found, names["features"], names["labels"])


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in parts.

    Raises:
        ConvertDataError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(_HASH_BYTES):
                digest.update(part)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ConvertDataError(msg, next_step="check the path") from error
    return digest.hexdigest()


def _read_side(archive: zipfile.ZipFile, member: str) -> Values:
    if archive.getinfo(member).file_size > _MAX_SIDE_BYTES:
        msg = f"{member} is longer than {_MAX_SIDE_BYTES} bytes"
        raise ValueError(msg)
    with archive.open(member) as stream:
        values: Values = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    return values


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, is_fortran, dtype = npy.read_array_header_1_0(stream)
    else:
        shape, is_fortran, dtype = npy.read_array_header_2_0(stream)
    if dtype.hasobject:
        msg = "an array of objects"
        raise ValueError(msg)
    if is_fortran and len(shape) > 1:
        msg = "an array in Fortran order"
        raise ValueError(msg)
    return shape, dtype


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        msg = f"{len(data)} of {size} bytes of a block"
        raise EOFError(msg)
    return data
