# SPDX-License-Identifier: Apache-2.0
"""The answer to an inference request, as JSON or with binary data behind it.

Owns the response's form; ``request`` names the documents. It sends nothing.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from edge_agent.flow import Float32, ModelCard
from edge_agent.serve.request import InferRequest, find_version
from edge_agent.serve.tensors import (
    DATATYPE,
    encode_binary,
    encode_strings,
    find_winners,
)

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """What came of a request.

    Attributes:
        card: The model that answered all of it.
        outputs: float32 [n, K], flattened.
        infer_ns: What the model took.
        marks: On any of the answers; see ``flow.Result``.
    """

    card: ModelCard
    outputs: Float32
    infer_ns: int
    marks: tuple[str, ...] = ()


def format_reply(
    name: str, request: InferRequest, inferred: Inferred
) -> tuple[bytes, int | None]:
    """Return the body, and the length of the JSON in it where more follows.

    Args:
        name: The slot.
        request: Says the form.
        inferred: Says the values.
    """
    tensor, binary = _format_output(request, inferred)
    document: dict[str, Any] = {
        "model_name": name,
        "model_version": find_version(inferred.card),
        "outputs": [tensor],
    }
    if request.id:
        document["id"] = request.id
    if inferred.marks:
        document["parameters"] = dict.fromkeys(inferred.marks, True)
    text = _encode(document).encode()
    return (text, None) if binary is None else (text + binary, len(text))


def _format_output(
    request: InferRequest, inferred: Inferred
) -> tuple[dict[str, Any], bytes | None]:
    card, outputs, wanted = inferred.card, inferred.outputs, request.wanted
    tensor: dict[str, Any] = {"name": card.output_name}
    binary: bytes | None = None
    if wanted.classes:
        winners = find_winners(outputs, card.labels, wanted.classes)
        flat = [one for row in winners for one in row]
        tensor |= {"datatype": "BYTES", "shape": [len(winners), wanted.classes]}
        if wanted.is_binary:
            binary = encode_strings(flat)
        else:
            tensor["data"] = flat
    else:
        shape = [len(outputs), *card.output_shape[1:]]
        tensor |= {"datatype": DATATYPE, "shape": shape}
        if wanted.is_binary:
            binary = encode_binary(outputs)
        else:
            tensor["data"] = outputs.ravel().tolist()
    if binary is not None:
        tensor["parameters"] = {"binary_data_size": len(binary)}
    return tensor, binary
