# SPDX-License-Identifier: Apache-2.0
"""An inference request, checked against the model that serves.

Owns the request's JSON and the binary extension (kserve/open-inference-protocol,
inference_rest.md; triton-inference-server/server, extension_binary_data.md and
extension_classification.md). Bytes come from anyone: only ``RefusedError`` and its kin
are raised. It reads no socket and runs no model.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from edge_agent.flow import Float32, ModelCard
from edge_agent.serve.refusals import (
    AbsentError,
    RefusedError,
    TooLargeError,
    UnsupportedError,
)
from edge_agent.serve.tensors import DATATYPE, decode_binary, decode_json

MAX_ROWS: Final = 1024
MAX_ID: Final = 256
VERSION_DIGITS: Final = 12
_SHARED: Final = "shared_memory_region"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The output as asked for: raw bytes or JSON; ``classes`` 0 means the values."""

    is_binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """What a client wants inferred.

    Attributes:
        id: Echoed in the answer; empty without one.
        frames: float32 [n, ...], the model's input shape after the batch.
        wanted: The form of the answer.
    """

    id: str
    frames: Float32
    wanted: Wanted


def find_version(card: ModelCard) -> str:
    """Return the version that clients see: the first digits of the release digest."""
    return card.digest[:VERSION_DIGITS]


def check_version(name: str, card: ModelCard, version: str) -> None:
    """Refuse another version than the one that serves; empty takes any.

    Raises:
        AbsentError: It does not serve.
    """
    serving = find_version(card)
    if version and not (card.digest.startswith(version) and version >= serving):
        msg = f"model {name}: version {version[:80]!r} does not serve, {serving} does"
        raise AbsentError(msg, next_step="leave the version out, or name that one")


def parse_request(
    body: bytes, json_bytes: int | None, card: ModelCard, max_json: int
) -> InferRequest:
    """Parse the body of an inference request.

    Args:
        body: Unpacked.
        json_bytes: Length of the JSON at its beginning; None where it is all JSON.
        card: The model that shall infer it.
        max_json: Bytes of JSON that are taken, at most.

    Raises:
        RefusedError: Malformed, or not what the model takes.
        TooLargeError: More JSON than ``max_json``.
    """
    length = len(body) if json_bytes is None else json_bytes
    if not 0 < length <= len(body):
        msg = f"request: expected 1 to {len(body)} bytes of JSON, found {length}"
        raise RefusedError(msg, next_step="correct Inference-Header-Content-Length")
    if length > max_json:
        msg = f"request: expected at most {max_json} bytes of JSON, found {length}"
        raise TooLargeError(
            msg,
            next_step="send the tensor as binary data (binary_data_size, "
            "Inference-Header-Content-Length), or raise service.max_json",
        )
    document = parse_object(body[:length])
    refuse_sequences(_parameters(document, "request"))
    frames = _read_input(document, card, memoryview(body)[length:])
    return InferRequest(_read_id(document), frames, _read_wanted(document, card))


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: NaN and Infinity are not JSON.

    Raises:
        RefusedError: Not one.
    """
    try:
        document = _decode(data.decode())
    except (ValueError, RecursionError) as error:
        msg = f"request: expected JSON: {str(error)[:200]}"
        raise RefusedError(msg) from error
    return _object(document, "request")


def check_input(
    name: str, datatype: str, shape: Sequence[int], card: ModelCard
) -> tuple[int, ...]:
    """Check an input's name, datatype and shape, and return the shape.

    Raises:
        RefusedError: The model takes another one.
    """
    if name != card.input_name:
        msg = f"input {name[:80]!r}: expected {card.input_name!r}"
        raise RefusedError(msg)
    if datatype != DATATYPE:
        msg = f"input {name}: expected datatype {DATATYPE}, found {datatype[:80]!r}"
        raise RefusedError(msg, next_step="the agent quantizes by itself: send float32")
    rest = card.input_shape[1:]
    if tuple(shape[1:]) != rest or not 1 <= shape[0] <= MAX_ROWS:
        msg = (
            f"input {name}: expected shape {[-1, *rest]} with 1 to {MAX_ROWS} frames, "
            f"found {list(shape)[:16]}"
        )
        raise RefusedError(msg)
    return tuple(shape)


def check_output(name: str, card: ModelCard) -> None:
    """Refuse the name of an output that the model has not.

    Raises:
        RefusedError: It has not.
    """
    if name != card.output_name:
        msg = f"output {name[:80]!r}: expected {card.output_name!r}"
        raise RefusedError(msg)


def check_classes(count: int, card: ModelCard) -> int:
    """Return how many winners to give: at most one a class.

    Raises:
        RefusedError: Below zero.
    """
    if count < 0:
        msg = f"output {card.output_name}: expected a classification from 0, got less"
        raise RefusedError(msg)
    return min(count, math.prod(card.output_shape[1:]))


def refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    """Refuse a tensor that lies in shared memory.

    Raises:
        UnsupportedError: It does.
    """
    if _SHARED in parameters:
        msg = "request: tensors in shared memory are not supported"
        raise UnsupportedError(msg, next_step="use the Unix socket and binary data")


def refuse_sequences(parameters: Mapping[str, Any]) -> None:
    """Refuse a request that belongs to a sequence: no model keeps state between two.

    Raises:
        UnsupportedError: It does.
    """
    if parameters.get("sequence_id"):
        msg = "request: sequences are not supported: no model keeps state"
        raise UnsupportedError(msg, next_step="leave sequence_id out")


def _read_id(document: dict[str, Any]) -> str:
    name = document.get("id", "")
    if not isinstance(name, str) or len(name) > MAX_ID:
        msg = f"request: expected id as a text of at most {MAX_ID} characters"
        raise RefusedError(msg)
    return name


def _read_input(
    document: dict[str, Any], card: ModelCard, binary: memoryview
) -> Float32:
    one = _only(document, "inputs", card.input_name)
    parameters = _parameters(one, "input")
    refuse_shared_memory(parameters)
    name, datatype = _text(one, "name"), _text(one, "datatype")
    shape = check_input(name, datatype, _read_shape(one), card)
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in one):
        msg = f"input {name}: expected either data or a binary_data_size"
        raise RefusedError(msg)
    announced = 0 if size is None else size
    if announced != len(binary) or type(announced) is not int:
        msg = (
            f"input {name}: expected {announced!r} bytes after the JSON, as "
            f"binary_data_size says, found {len(binary)}"
        )
        raise RefusedError(msg, next_step="check Inference-Header-Content-Length")
    if size is None:
        return decode_json(name, one["data"], shape)
    return decode_binary(name, binary, shape)


def _read_shape(one: dict[str, Any]) -> list[int]:
    shape = one.get("shape")
    if (
        not isinstance(shape, list)
        or not shape
        or any(type(side) is not int for side in shape)
    ):
        msg = "input: expected shape as a list of whole numbers"
        raise RefusedError(msg)
    return shape


def _read_wanted(document: dict[str, Any], card: ModelCard) -> Wanted:
    all_binary = _flag(_parameters(document, "request"), "binary_data_output")
    if "outputs" not in document:
        return Wanted(all_binary)
    one = _only(document, "outputs", card.output_name)
    parameters = _parameters(one, "output")
    refuse_shared_memory(parameters)
    check_output(_text(one, "name"), card)
    count = parameters.get("classification", 0)
    if type(count) is not int:
        msg = f"output {card.output_name}: expected classification as a whole number"
        raise RefusedError(msg)
    is_binary = _flag(parameters, "binary_data", default=all_binary)
    return Wanted(is_binary, check_classes(count, card))


def _only(document: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    found = document.get(key)
    if not isinstance(found, list) or len(found) != 1:
        msg = f"request: expected {key} as a list of one, {name!r}"
        raise RefusedError(msg)
    return _object(found[0], key)


def _parameters(document: dict[str, Any], what: str) -> dict[str, Any]:
    return _object(document.get("parameters", {}), f"{what}: parameters")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{what}: expected names and values, found {type(value).__name__}"
        raise RefusedError(msg)
    return value


def _text(one: dict[str, Any], key: str) -> str:
    value = one.get(key)
    if not isinstance(value, str):
        msg = f"tensor: expected {key} as a text"
        raise RefusedError(msg)
    return value


def _flag(parameters: dict[str, Any], key: str, *, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        msg = f"request: expected {key} as true or false"
        raise RefusedError(msg)
    return value


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not a number"
    raise ValueError(msg)


_decode: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode
