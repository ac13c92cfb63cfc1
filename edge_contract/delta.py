# SPDX-License-Identifier: Apache-2.0
"""Deltas: how one file becomes another, applied with the standard library alone.

Owns docs/spec/delta.md. A delta says for each stretch of the target how many bytes are
those of the source plus a difference (weights that were trained on differ a little,
everywhere, and the differences compress), and how many are new; the scheme of bsdiff
(Percival 2003) with other containers. A delta without a source is a compressed file.

A delta is not trusted: what it reads and writes is bounded by the caller, and only the
digest of what comes out decides. How stretches are found is the server's matter.
"""

import bz2
import hashlib
import itertools
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from edge_contract.canonical import decode_json, encode_json
from edge_contract.errors import CanonicalError, DeltaError

MAGIC: Final = b"edgeloop-delta\x01\n"
CODECS: Final = ("bz2", "xz")
MAX_HEADER_BYTES: Final = 1024
MAX_STRETCHES: Final = 2**18
# How xz predicts a byte: from the one before it, or from its place in a group of four.
# The second is for differences of float32, whose low bytes are noise and whose high
# bytes are nearly all zero.
_LITERALS: Final = ({"lc": 3, "lp": 0, "pb": 2}, {"lc": 0, "lp": 2, "pb": 2})
# What a device may have to hold for xz: its dictionary, and little more.
XZ_DICT_BYTES: Final = 1024 * 1024
_MEMORY_BYTES: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_NUMBER_BYTES: Final = 8
_LENGTH_BYTES: Final = 2
_TRIPLE_BYTES: Final = 3 * _NUMBER_BYTES
_LOW_BITS: Final = int.from_bytes(b"\x7f" * _CHUNK_BYTES, "little")
_HIGH_BITS: Final = int.from_bytes(b"\x80" * _CHUNK_BYTES, "little")


@dataclass(frozen=True, slots=True)
class DeltaOffer:
    """One way to a release, as a desired document offers it.

    Attributes:
        source: Digest of the release that it starts from; None: from nothing.
        path: Below the address of targets.
        sha256: Of the delta file.
        bytes: Its length.
    """

    source: str | None
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """One step of a delta.

    Attributes:
        add: Bytes that are the source's plus the difference's.
        new: Bytes after them that are new.
        seek: How far the source is moved after ``add``, back where negative.
    """

    add: int
    new: int
    seek: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta before it is compressed.

    Attributes:
        stretches: In the order of the target.
        difference: Target minus source, byte by byte, of all ``add`` bytes.
        new: All new bytes.
    """

    stretches: tuple[Stretch, ...]
    difference: bytes
    new: bytes


def encode_delta(delta: Delta, codec: str) -> bytes:
    """Return a delta file.

    Args:
        delta: What to write.
        codec: One of ``CODECS``.
    """
    triples = b"".join(
        number.to_bytes(_NUMBER_BYTES, "little", signed=True)
        for one in delta.stretches
        for number in (one.add, one.new, one.seek)
    )
    parts = [_compress(one, codec) for one in (triples, delta.difference, delta.new)]
    header = encode_json({"codec": codec, "parts": [len(one) for one in parts]})
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    return b"".join((MAGIC, length, header, *parts))


def apply_delta(
    delta: BinaryIO, source: BinaryIO, target: BinaryIO, length: int
) -> str:
    """Write what ``delta`` makes of ``source`` to ``target``.

    Memory stays below about 20 MiB, whatever the delta says.

    Args:
        delta: A delta file, open for reading.
        source: The file that it was made from; empty where it needs none.
        target: Written from where it stands.
        length: Bytes that must come out.

    Returns:
        The SHA-256 of what was written, in hex: the caller compares it.

    Raises:
        DeltaError: Malformed, not for this source, or not ``length`` bytes.
        OSError: A file cannot be read or written.
    """
    triples, difference, new = _open_parts(delta)
    digest = hashlib.sha256()
    left = length

    def write(data: bytes) -> None:
        digest.update(data)
        target.write(data)

    for stretch in _read_stretches(triples):
        left -= stretch.add + stretch.new
        if left < 0:
            msg = f"delta: expected {length} bytes to come out, found more"
            raise DeltaError(msg)
        for size in _chunks(stretch.add):
            write(_add(_read_source(source, size), difference.read(size)))
        for size in _chunks(stretch.new):
            write(new.read(size))
        if stretch.seek:
            _seek(source, stretch.seek)
    if left:
        msg = f"delta: expected {length} bytes to come out, found {length - left}"
        raise DeltaError(msg)
    for part in (triples, difference, new):
        part.check_end()
    return digest.hexdigest()


class _Part:
    """One compressed part of a delta file, read in order."""

    def __init__(self, stream: BinaryIO, start: int, size: int, codec: str) -> None:
        self._stream = stream
        self._next = start
        self._left = size
        self._engine: Any = (
            lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)
            if codec == "xz"
            else bz2.BZ2Decompressor()
        )

    def read(self, size: int, *, may_end: bool = False) -> bytes:
        """Return ``size`` bytes, or none where the part may end and does."""
        found = bytearray()
        while len(found) < size:
            data = self._decompress(size - len(found))
            if not data:
                break
            found += data
        if len(found) != size and (found or not may_end):
            msg = "delta: a part is shorter than its stretches"
            raise DeltaError(msg)
        return bytes(found)

    def check_end(self) -> None:
        """Refuse a part that holds more than was read."""
        if self._decompress(1) or self._left or self._engine.unused_data:
            msg = "delta: a part is longer than its stretches"
            raise DeltaError(msg)

    def _decompress(self, size: int) -> bytes:
        engine = self._engine
        try:
            while not engine.eof:
                data: bytes = engine.decompress(
                    self._more() if engine.needs_input else b"", size
                )
                if data:
                    return data
                if engine.needs_input and not self._left and not engine.eof:
                    msg = "delta: a part is cut short"
                    raise DeltaError(msg)
        except (lzma.LZMAError, OSError, ValueError, EOFError) as error:
            msg = f"delta: a part cannot be decompressed: {error}"
            raise DeltaError(msg) from error
        return b""

    def _more(self) -> bytes:
        self._stream.seek(self._next)
        data = self._stream.read(min(self._left, _CHUNK_BYTES))
        self._next += len(data)
        self._left = self._left - len(data) if data else 0
        return data


def _open_parts(delta: BinaryIO) -> list[_Part]:
    head = delta.read(len(MAGIC) + _LENGTH_BYTES)
    size = int.from_bytes(head[len(MAGIC) :], "little")
    if not head.startswith(MAGIC) or not 0 < size <= MAX_HEADER_BYTES:
        msg = "delta: expected a delta file"
        raise DeltaError(msg, next_step="fetch the whole file instead")
    try:
        header = decode_json(delta.read(size), max_bytes=MAX_HEADER_BYTES)
        codec, sizes = header["codec"], header["parts"]
        is_ours = codec in CODECS and [type(one) for one in sizes] == [int] * 3
    except (CanonicalError, LookupError, TypeError) as error:
        msg = f"delta: malformed header: {error}"
        raise DeltaError(msg) from error
    if not is_ours or min(sizes) < 0:
        msg = f"delta: expected three parts in bz2 or xz, found {header!r}"
        raise DeltaError(msg, next_step="update this program")
    starts = itertools.accumulate(sizes, initial=delta.tell())
    return [
        _Part(delta, start, size, codec)
        for start, size in zip(starts, sizes, strict=False)
    ]


def _read_stretches(part: _Part) -> Iterator[Stretch]:
    for _ in range(MAX_STRETCHES):
        data = part.read(_TRIPLE_BYTES, may_end=True)
        if not data:
            return
        add, new, seek = (
            int.from_bytes(data[at : at + _NUMBER_BYTES], "little", signed=True)
            for at in range(0, _TRIPLE_BYTES, _NUMBER_BYTES)
        )
        if add < 0 or new < 0:
            msg = f"delta: a stretch of {add} and {new} bytes"
            raise DeltaError(msg)
        yield Stretch(add, new, seek)
    msg = f"delta: expected at most {MAX_STRETCHES} stretches"
    raise DeltaError(msg)


def _read_source(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        msg = "delta: the source is shorter than the delta's stretches"
        raise DeltaError(msg, next_step="fetch the whole file instead")
    return data


def _seek(source: BinaryIO, offset: int) -> None:
    place = source.tell() + offset
    if place < 0:
        msg = "delta: a stretch reads before the source's start"
        raise DeltaError(msg)
    source.seek(place)


def _chunks(size: int) -> Iterator[int]:
    whole, rest = divmod(size, _CHUNK_BYTES)
    yield from itertools.repeat(_CHUNK_BYTES, whole)
    if rest:
        yield rest


def _add(first: bytes, second: bytes) -> bytes:
    """Add two strings byte by byte, modulo 256, many at a time.

    >>> _add(bytes([1, 200, 255]), bytes([1, 100, 1])).hex()
    '022c00'
    """
    a, b = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    # The low seven bits of each byte never carry into the next one.
    total = ((a & _LOW_BITS) + (b & _LOW_BITS)) ^ ((a ^ b) & _HIGH_BITS)
    return total.to_bytes(len(first), "little")


def _compress(data: bytes, codec: str) -> bytes:
    if codec == "bz2":
        return bz2.compress(data)
    return min((_compress_xz(data, literals) for literals in _LITERALS), key=len)


def _compress_xz(data: bytes, literals: Mapping[str, int]) -> bytes:
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": XZ_DICT_BYTES, **literals}
    ]
    return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)
