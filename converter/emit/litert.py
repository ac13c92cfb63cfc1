# SPDX-License-Identifier: Apache-2.0
"""From ONNX to LiteRT, for the operators of small networks.

Owns the order of work; layout is ``emission``, operators are ``litert_operators``.
"""

from converter.emit.emission import Emission, Held
from converter.emit.flatbuffer import options
from converter.emit.graph import Node, read_graph
from converter.emit.litert_operators import OPERATORS
from converter.errors import ConvertOperatorError
from converter.model import FloatModel


def emit_litert(model: FloatModel) -> bytes:
    """Return a LiteRT file.

    Args:
        model: In the normal form of ``ort.normalise``; a softmax that it took off the
            end comes back.

    Raises:
        ConvertOperatorError: An operator is not covered; the first one is named.
    """
    graph = read_graph(model.content)
    for node in graph.nodes:
        if node.kind not in OPERATORS:
            msg = f"LiteRT: {node.kind} is not converted from ONNX"
            raise ConvertOperatorError(msg, next_step="use a device with ONNX Runtime")
    run = Emission(graph)
    given = run.file.add_tensor(model.input.name, model.input.shape)
    run.hold(graph.input, Held(given))
    for node in graph.nodes:
        if not run.is_taken(node):
            OPERATORS[node.kind](run, node)
    found = run.plain(graph.output, Node("Output", (graph.output,), (graph.output,)))
    if model.post == ("softmax",):
        output = run.file.add_tensor("probabilities", model.output.shape)
        given_beta = options("SoftmaxOptions", beta=1.0)
        found = run.file.add_operator("SOFTMAX", [found], output, given_beta)
    return run.file.pack(given, found)
