# SPDX-License-Identifier: Apache-2.0
"""Tensors as the Open Inference Protocol carries them, from untrusted bytes and back.

Owns the two forms of FP32 (little-endian bytes; numbers in JSON, flat or nested) and of
BYTES, and the winners of a classification. It knows no request and no model.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edge_agent.flow import Float32
from edge_agent.serve.refusals import RefusedError

DATATYPE: Final = "FP32"
ITEM_BYTES: Final = 4
_LITTLE: Final = np.dtype("<f4")


def decode_binary(name: str, data: memoryview, shape: tuple[int, ...]) -> Float32:
    """Return a tensor of raw values, without a copy where it is aligned.

    Args:
        name: For messages.
        data: Little-endian float32.
        shape: What the request says.

    Raises:
        RefusedError: The bytes are not as many as ``shape`` needs.
    """
    expected = math.prod(shape) * ITEM_BYTES
    if len(data) != expected:
        msg = (
            f"input {name}: expected {expected} bytes for shape {list(shape)}, "
            f"found {len(data)}"
        )
        raise RefusedError(msg)
    values = np.frombuffer(data, dtype=_LITTLE).reshape(shape)
    if values.flags.aligned and _LITTLE.isnative:
        return values
    return values.astype(np.float32)


def decode_json(name: str, values: Any, shape: tuple[int, ...]) -> Float32:
    """Return a tensor of JSON numbers, flat or nested as ``shape`` says.

    Raises:
        RefusedError: Not numbers, not finite in float32, or another number of them.
    """
    try:
        found = np.asarray(values) if isinstance(values, list) else None
    except ValueError:  # ragged, or nested deeper than an array can be
        found = None
    if found is None or found.dtype.kind not in "fiu":
        msg = f"input {name}: expected data as numbers, flat or nested as the shape"
        raise RefusedError(msg)
    if found.shape not in {shape, (math.prod(shape),)}:
        msg = (
            f"input {name}: expected data of shape {list(shape)}, flat or nested, "
            f"found {list(found.shape)}"
        )
        raise RefusedError(msg)
    with np.errstate(over="ignore"):
        tensor: Float32 = found.astype(np.float32).reshape(shape)
    if not np.isfinite(tensor).all():
        msg = f"input {name}: expected numbers within float32, found a larger one"
        raise RefusedError(msg)
    return tensor


def encode_binary(tensor: Float32) -> bytes:
    """Return little-endian float32 bytes."""
    return tensor.astype(_LITTLE, copy=False).tobytes()


def encode_strings(strings: Sequence[str]) -> bytes:
    r"""Return a BYTES tensor: each string after its length, little-endian uint32.

    >>> encode_strings(["ab"])
    b'\x02\x00\x00\x00ab'
    """
    encoded = [one.encode() for one in strings]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def find_winners(
    outputs: Float32, labels: Sequence[str], count: int
) -> list[list[str]]:
    """Return ``score:index`` or ``score:index:label`` of the best of each row.

    This is the classification extension of Triton's protocol.

    Args:
        outputs: float32 [n, K].
        labels: Names of the classes; empty without any.
        count: How many of a row, at most K.

    >>> find_winners(np.float32([[0.25, 0.75]]), ("low", "high"), 1)
    [['0.750000:1:high']]
    """
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :count]
    return [
        [
            ":".join([f"{row[index]:f}", str(index), *labels[index : index + 1]])
            for index in winners
        ]
        for row, winners in zip(outputs, best, strict=True)
    ]
