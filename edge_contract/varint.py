# SPDX-License-Identifier: Apache-2.0
"""Blocks of counts as LEB128 varints: many at once, vectorised, or a few.

Owns the count block of docs/spec/windows.md: unsigned LEB128, shortest form, one after
another; zigzag before it where counts may be negative. It does not know what is
counted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import WindowError

MAX_COUNT = 2**53 - 1
MAX_SIGNED_COUNT = 2**52
_MAX_VARINT_BYTES = 8
_CONTINUE = 0x80
_SHIFT = 7
_SIGN = 63

Int64 = NDArray[np.int64]


def encode_counts(counts: Int64) -> bytes:
    """Encode non-negative ``counts`` (int64 [n]).

    Raises:
        WindowError: A count is negative or above 2**53 - 1.

    >>> encode_counts(np.array([1, 300], np.int64)).hex()
    '01ac02'
    """
    low, high = (int(counts.min()), int(counts.max())) if counts.size else (0, 0)
    if low < 0 or high > MAX_COUNT:
        msg = f"counts: expected 0 to {MAX_COUNT}, found {low} to {high}"
        raise WindowError(msg)
    if high < _CONTINUE:
        return counts.astype(np.uint8).tobytes()
    width = -(-high.bit_length() // _SHIFT)
    # A column a byte: the low seven bits, and whether the number goes on after them.
    groups = np.empty((len(counts), width), dtype=np.uint8)
    used = np.empty((len(counts), width), dtype=np.bool_)
    used[:, 0] = True
    rest = counts
    for column in range(width - 1):
        np.bitwise_and(rest, _CONTINUE - 1, out=groups[:, column], casting="unsafe")
        rest = rest >> _SHIFT
        np.greater(rest, 0, out=used[:, column + 1])
    groups[:, -1] = rest
    groups[:, :-1] |= used[:, 1:].view(np.uint8) << _SHIFT
    return groups[used].tobytes()


def encode_signed_counts(counts: Int64) -> bytes:
    """Encode ``counts`` (int64 [n]) of either sign: 0, -1, 1, -2 travel as 0, 1, 2, 3.

    Raises:
        WindowError: A count is below -2**52 or not below 2**52.

    >>> encode_signed_counts(np.array([-1, 300], np.int64)).hex()
    '01d804'
    """
    if counts.size and not (
        int(counts.min()) >= -MAX_SIGNED_COUNT and int(counts.max()) < MAX_SIGNED_COUNT
    ):
        msg = f"counts: expected -2**52 to 2**52 - 1, found {int(counts.max())}"
        raise WindowError(f"{msg} and {int(counts.min())}")
    return encode_counts((counts << 1) ^ (counts >> _SIGN))


def decode_signed_counts(data: bytes, expected: int) -> Int64:
    """Decode exactly ``expected`` counts of either sign, int64 [expected].

    Raises:
        WindowError: See ``decode_counts``.
    """
    folded = decode_counts(data, expected)
    return (folded >> 1) ^ -(folded & 1)


def encode_few(counts: Sequence[int]) -> bytes:
    """Encode non-negative ``counts``; faster than ``encode_counts`` up to a hundred.

    Raises:
        WindowError: A count is negative or above 2**53 - 1.

    >>> encode_few([1, 300]).hex()
    '01ac02'
    """
    if counts and not 0 <= min(counts) <= max(counts) <= MAX_COUNT:
        msg = f"counts: expected 0 to {MAX_COUNT}, found {min(counts)} to {max(counts)}"
        raise WindowError(msg)
    found = bytearray()
    for count in counts:
        rest = count
        while rest >= _CONTINUE:
            found.append(rest & (_CONTINUE - 1) | _CONTINUE)
            rest >>= _SHIFT
        found.append(rest)
    return bytes(found)


def decode_few(data: bytes) -> list[int]:
    """Decode all counts that there are.

    Raises:
        WindowError: A count is cut off, above 2**53 - 1, or not in its shortest form.
    """
    counts: list[int] = []
    count = shift = 0
    for byte in data:
        count |= (byte & (_CONTINUE - 1)) << shift
        if byte >= _CONTINUE:
            shift += _SHIFT
            continue
        if count > MAX_COUNT or (shift and not byte):
            msg = f"counts: expected at most {MAX_COUNT} in shortest form"
            raise WindowError(msg)
        counts.append(count)
        count = shift = 0
    if shift:
        msg = f"counts: expected a last one, found it cut off in {len(data)} bytes"
        raise WindowError(msg)
    return counts


def decode_counts(data: bytes, expected: int) -> Int64:
    """Decode exactly ``expected`` counts.

    Returns:
        int64 [expected].

    Raises:
        WindowError: Another number of counts, a count above 2**53 - 1, or a count that
            is not in its shortest form.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < _CONTINUE)
    if len(ends) != expected or (len(raw) and raw[-1] >= _CONTINUE):
        msg = f"counts: expected {expected}, found {len(ends)} in {len(raw)} bytes"
        raise WindowError(msg)
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    lengths = ends - starts + 1
    width = int(lengths.max())
    if width > _MAX_VARINT_BYTES or ((raw[ends] == 0) & (lengths > 1)).any():
        msg = f"counts: a count is longer than {_MAX_VARINT_BYTES} bytes, or padded"
        raise WindowError(msg)
    positions = np.arange(len(raw)) - np.repeat(starts, lengths)
    parts = (raw & (_CONTINUE - 1)).astype(np.int64) << (positions * _SHIFT)
    counts = np.add.reduceat(parts, starts)
    if int(counts.max()) > MAX_COUNT:
        msg = f"counts: expected at most {MAX_COUNT}, found {int(counts.max())}"
        raise WindowError(msg)
    return counts
