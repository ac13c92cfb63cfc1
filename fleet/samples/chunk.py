# SPDX-License-Identifier: Apache-2.0
"""One chunk of samples: rows, their recordings and perhaps their labels.

Owns reading and checking a chunk's canonical CBOR:
``{1: [rows, channels], 2: "<f4", 3: x, 4: [[recording, rows], …], 5: y, 6: names,
7: chunks}``. Pure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_contract.canonical import decode_cbor
from edge_contract.errors import CanonicalError
from fleet.errors import RequestError

MAX_CHANNELS = 1024
_SHAPE, _DTYPE, _X, _RUNS, _Y, _NAMES, _CHUNKS = range(1, 8)
_ITEM_BYTES = 4
_MAX_NAME = 200


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in the order in which they were measured.

    Attributes:
        x: float32 [rows, channels].
        recording: The recording of each row.
        y: int32 [rows], None when there are no labels.
        names: A name a channel, or none at all.
        chunks: How many chunks the device sends for the request.
    """

    x: npt.NDArray[np.float32]
    recording: tuple[str, ...]
    y: npt.NDArray[np.int32] | None
    names: tuple[str, ...]
    chunks: int


def parse_chunk(data: bytes, *, max_bytes: int) -> Chunk:
    """Parse a chunk.

    Raises:
        RequestError: Not canonical CBOR, or inconsistent.
    """
    try:
        body = decode_cbor(data, max_bytes=max_bytes)
    except CanonicalError as error:
        raise _wrong(str(error)) from error
    try:
        return _build(body)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _wrong(f"{type(error).__name__}: {error}") from error


def _build(body: Any) -> Chunk:
    rows, channels = (_count(one) for one in body[_SHAPE])
    _check(1 <= channels <= MAX_CHANNELS, f"{channels} channels")
    _check(body[_DTYPE] == "<f4", f"dtype {body[_DTYPE]!r}")
    _check(len(body[_X]) == rows * channels * _ITEM_BYTES, "length of x")
    x = np.frombuffer(body[_X], dtype="<f4").reshape(rows, channels)
    recording = [
        name for name, run in body[_RUNS] for name in [_text(name)] * _run(run, rows)
    ]
    _check(len(recording) == rows, "sum of the recordings' rows")
    y = None
    if _Y in body:
        _check(len(body[_Y]) == rows * _ITEM_BYTES, "length of y")
        y = np.frombuffer(body[_Y], dtype="<i4").astype(np.int32)
    names = tuple(_text(one) for one in body[_NAMES])
    _check(len(names) in {0, channels}, "number of names")
    chunks = _count(body[_CHUNKS])
    return Chunk(x.astype(np.float32), tuple(recording), y, names, chunks)


def _run(value: Any, rows: int) -> int:
    _check(_count(value) <= rows, "rows of a recording")
    return _count(value)


def _count(value: Any) -> int:
    _check(type(value) is int and value > 0, f"count {value!r}")
    return int(value)


def _text(value: Any) -> str:
    _check(isinstance(value, str) and len(value) <= _MAX_NAME, f"name {value!r}")
    return str(value)


def _check(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _wrong(found: str) -> RequestError:
    message = f"samples: expected a chunk of rows, found: {found}"
    return RequestError(message, next_step="update the device's agent")
