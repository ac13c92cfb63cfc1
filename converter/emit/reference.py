# SPDX-License-Identifier: Apache-2.0
"""From ONNX to the reference runtime: linear models and trees, maybe after a scaler.

Covers ``Sub``, ``Mul`` and ``Add`` by constants before one of ``Gemm``,
``MatMul``, ``TreeEnsembleClassifier`` or ``TreeEnsembleRegressor``, and ``Softmax``
after it.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from converter.emit.graph import Graph, Node, read_graph
from converter.errors import ConvertOperatorError
from converter.model import FloatModel
from converter.tensors import Float32
from edge_contract.errors import EdgeError
from edge_contract.reference_model import (
    LEAF,
    Linear,
    Link,
    ReferenceModel,
    Trees,
)

_LINKS: Final[dict[str, Link]] = {
    "NONE": "none",
    "SOFTMAX": "softmax",
    "LOGISTIC": "logistic",
}
_TREES: Final = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor"})
_COVERED: Final = _TREES | {"Add", "Gemm", "MatMul", "Mul", "Softmax", "Sub"}
_MAX_REASON: Final = 200


def emit_reference(model: FloatModel) -> bytes:
    """Return a file for the reference runtime.

    Args:
        model: In the normal form of ``ort.normalise``; a softmax that it took off the
            end comes back.

    Raises:
        ConvertOperatorError: An operator is not covered; the first one is named.
    """
    graph = read_graph(model.content)
    if len(model.input.shape) != 2:
        msg = f"the reference runtime takes rows, found {list(model.input.shape)}"
        raise ConvertOperatorError(msg)
    found = _Chain(graph, model.input.shape[1]).read()
    if model.post == ("softmax",) and found.link == "none":
        found = replace(found, link="softmax")
    content = found.encode()
    try:
        ReferenceModel.decode(content)  # the same bounds as on a device
    except EdgeError as error:
        msg = f"the reference runtime: {error.message[:_MAX_REASON]}"
        raise ConvertOperatorError(msg) from error
    return content


@dataclass
class _Chain:
    """A graph that is one chain of nodes."""

    graph: Graph
    width: int

    def read(self) -> ReferenceModel:
        for node in self.graph.nodes:
            if node.kind not in _COVERED:
                raise _uncovered(node)
        nodes = self._ordered()
        affine, at = self._affine(nodes)
        if at >= len(nodes):
            msg = "the reference runtime: expected a linear model or trees, found none"
            raise ConvertOperatorError(msg)
        node = nodes[at]
        body: Linear | Trees
        if node.kind in {"Gemm", "MatMul"}:
            body, link, used = self._linear(nodes, at)
        elif node.kind in _TREES:
            body, link = _trees(node)
            used = at + 1
        else:
            raise _uncovered(node)
        rest = nodes[used:]
        if rest and rest[0].kind == "Softmax" and link == "none":
            link, rest = "softmax", rest[1:]
        if rest:
            raise _uncovered(rest[0])
        return ReferenceModel(self.width, body, link, affine)

    def _ordered(self) -> list[Node]:
        found: list[Node] = []
        name = self.graph.input
        while name != self.graph.output:
            readers = self.graph.readers(name)
            if len(readers) != 1:
                msg = f"the reference runtime takes one chain, {name!r} is read by"
                raise ConvertOperatorError(f"{msg} {len(readers)} operators")
            found.append(readers[0])
            scores = 1 if readers[0].kind == "TreeEnsembleClassifier" else 0
            name = readers[0].outputs[scores]
        return found

    def _affine(self, nodes: list[Node]) -> tuple[tuple[Float32, Float32] | None, int]:
        """Return a scaler before the model, as ``(x - offset) * factor``."""
        kinds = [one.kind for one in nodes[:2]]
        if kinds[:1] == ["Sub"] and kinds[1:] == ["Mul"]:
            return (self._row(nodes[0]), self._row(nodes[1])), 2
        if kinds[:1] == ["Sub"]:
            return (self._row(nodes[0]), np.ones(self.width, np.float32)), 1
        if kinds == ["Mul", "Add"] and nodes[-1].kind not in _TREES:
            factor = self._row(nodes[0])
            return (-self._row(nodes[1]) / factor, factor), 2
        if kinds[:1] == ["Mul"] and kinds[1:] != ["Add"]:
            return (np.zeros(self.width, np.float32), self._row(nodes[0])), 1
        return None, 0

    def _row(self, node: Node) -> Float32:
        if node.inputs[1] not in self.graph.constants:
            raise node.refuse("expected a constant second input")
        row = self.graph.constants[node.inputs[1]]
        if row.size not in {1, self.width}:
            raise node.refuse(f"expected {self.width} values, found {row.size}")
        found: Float32 = np.broadcast_to(row.ravel(), (self.width,)).astype(np.float32)
        return found

    def _linear(self, nodes: list[Node], at: int) -> tuple[Linear, Link, int]:
        node, used = nodes[at], at + 1
        weights = self.graph.constant(node, 1)
        if not node.attributes.get("transB", 0):
            weights = weights.T
        plain = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        if plain != (1.0, 1.0) or node.attributes.get("transA", 0):
            raise node.refuse("expected no factors")
        bias = np.zeros(len(weights), np.float32)
        if len(node.inputs) > 2:
            bias = self.graph.constant(node, 2)
        elif node.kind == "MatMul" and [one.kind for one in nodes[used:]][:1] == [
            "Add"
        ]:
            known = [x for x in nodes[used].inputs if x in self.graph.constants]
            if not known:
                raise _uncovered(nodes[used])
            bias, used = self.graph.constants[known[0]], used + 1
        bias = np.broadcast_to(bias.ravel(), (len(weights),)).astype(np.float32)
        return Linear(weights.astype(np.float32), bias), "none", used


def _uncovered(node: Node) -> ConvertOperatorError:
    return ConvertOperatorError(f"the reference runtime has no {node.kind}")


def _trees(node: Node) -> tuple[Trees, Link]:
    """Return the trees of an ONNX-ML ensemble (operator set 3 of ai.onnx.ml)."""
    given = node.attributes
    is_classifier = node.kind == "TreeEnsembleClassifier"
    part = "class" if is_classifier else "target"
    if given.get("aggregate_function", "SUM") != "SUM":
        raise node.refuse(f"aggregates by {given['aggregate_function']}")
    transform = given.get("post_transform", "NONE")
    if transform not in _LINKS:
        raise node.refuse(f"ends in {transform}")
    if any(name.endswith("_as_tensor") for name in given):
        raise node.refuse("has float64 thresholds")
    outputs = int(given.get("n_targets", 0)) or len(
        given.get("classlabels_int64s") or given.get("classlabels_strings") or ()
    )
    index, arrays = _nodes(node)
    values, base = _values(node, part, index, outputs)
    link = _LINKS[transform]
    if is_classifier and outputs == 2 and set(given["class_ids"]) <= {0}:
        values, base, link = _pair(node, values[:, :1], base, link)
    arrays["below"] = np.where(
        arrays["features"] == LEAF,
        np.cumsum(arrays["features"] == LEAF) - 1,
        arrays["below"],
    )
    values = values[arrays["features"] == LEAF]
    return Trees(values=values, base=base, **arrays), link


def _nodes(node: Node) -> tuple[dict[tuple[int, int], int], dict[str, Any]]:
    """Return the place of each (tree, node), parents first, and the arrays."""
    given = node.attributes
    modes = [one.decode() for one in given["nodes_modes"]]
    wrong = set(modes) - {"BRANCH_LEQ", "BRANCH_LT", "LEAF"}
    if wrong:
        raise node.refuse(f"compares by {', '.join(sorted(wrong))}")
    keys = list(zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True))
    order = _parents_first(node, keys, modes)
    index = {keys[one]: place for place, one in enumerate(order)}
    picked = np.array(order)
    is_leaf = np.array(modes)[picked] == "LEAF"
    limits = np.array(given["nodes_values"], np.float32)[picked]
    below_limit = np.nextafter(limits, np.float32(-np.inf))
    limits = np.where(np.array(modes)[picked] == "BRANCH_LT", below_limit, limits)
    ways = {
        name: np.array(
            [
                0 if modes[one] == "LEAF" else index[keys[one][0], given[source][one]]
                for one in order
            ]
        )
        for name, source in (
            ("below", "nodes_truenodeids"),
            ("above", "nodes_falsenodeids"),
        )
    }
    missing = given.get("nodes_missing_value_tracks_true") or [0] * len(keys)
    arrays = {
        "roots": np.array(
            [place for key, place in index.items() if key in _roots(keys)], np.int32
        ),
        "features": np.where(
            is_leaf, LEAF, np.array(given["nodes_featureids"])[picked]
        ),
        "thresholds": np.where(is_leaf, np.float32(0), limits).astype(np.float32),
        "missing_below": np.where(is_leaf, 0, np.array(missing)[picked]),
        **ways,
    }
    return index, arrays


def _roots(keys: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the first node of each tree: by the operator's rule, its root."""
    found: dict[int, tuple[int, int]] = {}
    for one in keys:
        found.setdefault(one[0], one)
    return set(found.values())


def _parents_first(
    node: Node, keys: list[tuple[int, int]], modes: list[str]
) -> list[int]:
    """Return the nodes in an order in which children stand behind their parents."""
    given = node.attributes
    place = {key: one for one, key in enumerate(keys)}
    order: list[int] = []
    level = [place[one] for one in keys if one in _roots(keys)]
    while level:
        order += level
        if len(order) > len(keys):
            raise node.refuse("a node has two parents")
        level = [
            place[keys[one][0], given[way][one]]
            for one in level
            if modes[one] != "LEAF"
            for way in ("nodes_truenodeids", "nodes_falsenodeids")
        ]
    return order


def _values(
    node: Node, part: str, index: dict[tuple[int, int], int], outputs: int
) -> tuple[Float32, Float32]:
    given = node.attributes
    values = np.zeros((len(index), outputs), np.float32)
    places = [
        index[key]
        for key in zip(given[f"{part}_treeids"], given[f"{part}_nodeids"], strict=True)
    ]
    np.add.at(values, (places, given[f"{part}_ids"]), given[f"{part}_weights"])
    base = np.zeros(outputs, np.float32)
    known = given.get("base_values") or ()
    base[: len(known)] = known
    return values, base


def _pair(
    node: Node, values: Float32, base: Float32, link: Link
) -> tuple[Float32, Float32, Link]:
    """Return two classes that the operator writes as one score of the second."""
    if link == "logistic":
        return values, base[:1], "pair"
    if link == "none" and (values >= 0).all():
        both = np.concatenate([-values, values], axis=1)
        return both, np.array([1 - base[0], base[0]], np.float32), "none"
    raise node.refuse("has one score for two classes, and no link")
