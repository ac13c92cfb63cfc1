# SPDX-License-Identifier: Apache-2.0
"""A LiteRT candidate with the scales and zero points of an earlier variant.

Owns moving a quantized file onto another one's grid: what was trained a little differs
from what it was in few integers then, and a delta between the two is small. Weights are
rounded from the float model again and clip where they outgrew their scale; whether that
is good enough is for the metric to say, like for any candidate.
"""

from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from converter.errors import ConvertQuantizeError
from converter.litert.normalise import pack

_INT8: Final = schema.TensorType.INT8
_DTYPES: Final = {_INT8: np.int8, schema.TensorType.INT32: np.int32}
_WEIGHT_LIMIT: Final = 127  # weights are symmetric
_INT32: Final = np.iinfo(np.int32)
_STEP: Final = "build without --like"


def frozen(content: bytes, like: bytes, base: bytes) -> bytes:
    """Return ``content`` on the grid of ``like``.

    Args:
        content: The quantized file of the new model.
        like: The quantized file of the old one, by the same recipe.
        base: The float file that ``content`` was made of.

    Raises:
        ConvertQuantizeError: The two are not of the same architecture.
    """
    model, old = _read(content), _read(like)
    graph, before = model.subgraphs[0], old.subgraphs[0]
    _check_alike(graph, before)
    floats = _floats(_read(base))
    moved: set[int] = set()
    for tensor, pattern in zip(graph.tensors, before.tensors, strict=True):
        if not _is_quantized(pattern):
            continue
        was, tensor.quantization = tensor.quantization, pattern.quantization
        data = model.buffers[tensor.buffer].data
        if data is None or len(data) == 0 or tensor.type not in _DTYPES:
            continue
        if tensor.buffer in moved:
            raise _not_alike("two tensors share their values")
        moved.add(tensor.buffer)
        stored = np.frombuffer(bytes(data), _DTYPES[tensor.type])
        values = stored.reshape([int(one) for one in tensor.shape])
        exact: NDArray[Any] = _dequantized(values, was)
        known = floats.get(tensor.name) if tensor.type == _INT8 else None
        if known is not None and known.shape == values.shape:
            exact = known
        found = _rounded(exact, pattern.quantization, values.dtype)
        model.buffers[tensor.buffer].data = np.frombuffer(found.tobytes(), np.uint8)
    return pack(model)


def _check_alike(graph: Any, before: Any) -> None:
    if len(graph.tensors) != len(before.tensors):
        counts = f"{len(before.tensors)} tensors, found {len(graph.tensors)}"
        raise _not_alike(f"expected {counts}")
    for tensor, pattern in zip(graph.tensors, before.tensors, strict=True):
        found = (tensor.type, [int(one) for one in tensor.shape])
        wanted = (pattern.type, [int(one) for one in pattern.shape])
        if found != wanted or _is_quantized(tensor) != _is_quantized(pattern):
            name = tensor.name.decode(errors="replace")
            raise _not_alike(f"tensor {name}: expected {wanted}, found {found}")


def _not_alike(found: str) -> ConvertQuantizeError:
    return ConvertQuantizeError(
        f"the earlier variant is of another architecture: {found}", next_step=_STEP
    )


def _is_quantized(tensor: Any) -> bool:
    quantization = tensor.quantization
    scale = None if quantization is None else quantization.scale
    return scale is not None and len(scale) > 0


def _floats(model: Any) -> dict[bytes, NDArray[np.float32]]:
    """Return the stored float tensors of a model by name."""
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None and len(data):
            shape = [int(one) for one in tensor.shape]
            found[tensor.name] = np.frombuffer(bytes(data), np.float32).reshape(shape)
    return found


def _grid(quantization: Any, dimensions: int) -> tuple[Any, Any]:
    """Return scale and zero point in a shape that broadcasts over a tensor."""
    scale = np.asarray(quantization.scale, np.float64)
    zero = np.asarray(quantization.zeroPoint, np.float64)
    if scale.size == 1:
        return scale[0], zero[0]
    shape = [1] * dimensions
    shape[int(quantization.quantizedDimension)] = scale.size
    return scale.reshape(shape), zero.reshape(shape)


def _dequantized(values: NDArray[Any], quantization: Any) -> NDArray[np.float64]:
    scale, zero = _grid(quantization, values.ndim)
    real: NDArray[np.float64] = (values.astype(np.float64) - zero) * scale
    return real


def _rounded(
    values: NDArray[Any], quantization: Any, dtype: np.dtype[Any]
) -> NDArray[Any]:
    scale, zero = _grid(quantization, values.ndim)
    low, high = (
        (-_WEIGHT_LIMIT, _WEIGHT_LIMIT)
        if dtype == np.int8
        else (int(_INT32.min), int(_INT32.max))
    )
    # A channel that was all zero has no scale to speak of.
    steps = np.divide(
        values.astype(np.float64),
        scale,
        out=np.zeros(values.shape, np.float64),
        where=np.broadcast_to(scale, values.shape) > 0,
    )
    whole: NDArray[Any] = np.clip(np.rint(steps) + zero, low, high).astype(dtype)
    return whole


def _read(content: bytes) -> Any:
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))
