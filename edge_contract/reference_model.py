# SPDX-License-Identifier: Apache-2.0
"""The reference runtime: linear models and trees in pure numpy, on any device.

Owns docs/spec/reference-model.md: the file (canonical CBOR, decoded with bounds from
untrusted bytes) and what it computes. A threshold is float32 and so is an input: the
comparisons of a model trained on float64 thresholds are kept exactly, see RFM-12.

It makes no model; see ``converter.emit``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import CanonicalError, ReferenceModelError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Link = Literal["none", "softmax", "logistic", "pair"]
FORMAT: Final = 1
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_INPUTS: Final = 65_536
MAX_OUTPUTS: Final = 4_096
MAX_TREES: Final = 65_536
MAX_DEPTH: Final = 256
LEAF: Final = -1


@dataclass(frozen=True, eq=False)
class Linear:
    """Weights float32 [K, N] and bias float32 [K]."""

    weights: Float32
    bias: Float32

    def scores(self, rows: Float32) -> Float64:
        """Return float64 [n, K] of float32 [n, N]."""
        found: Float64 = rows.astype(np.float64) @ self.weights.T.astype(np.float64)
        return found + self.bias


@dataclass(frozen=True, eq=False)
class Trees:
    """Binary trees over one array of nodes; a leaf's feature is ``LEAF``.

    Attributes:
        roots: int32 [T], each tree's first node.
        features: int32 [M], which input is compared.
        thresholds: float32 [M]; zero at a leaf.
        below: int32 [M], the node after ``x <= threshold``; at a leaf, its row of
            ``values``. Children stand behind their parent.
        above: int32 [M], the node after anything else; zero at a leaf.
        missing_below: uint8 [M], whether a NaN goes below.
        values: float32 [L, K], what a leaf adds to the scores.
        base: float32 [K], what every row begins with.
        depth: Steps from a root to the furthest leaf.
    """

    roots: NDArray[np.int32]
    features: NDArray[np.int32]
    thresholds: Float32
    below: NDArray[np.int32]
    above: NDArray[np.int32]
    missing_below: NDArray[np.uint8]
    values: Float32
    base: Float32
    depth: int = 0

    def scores(self, rows: Float32) -> Float64:
        """Return float64 [n, K] of float32 [n, N]."""
        return np.stack([self._row_scores(one) for one in rows])

    def _row_scores(self, row: Float32) -> Float64:
        """Return float64 [K] of one row; every tree goes a step at a time."""
        features, ways = self._steps
        has_missing = bool(np.isnan(row).any())
        at = self.roots
        for _ in range(self.depth):
            value = row.take(features.take(at))
            goes_below = value <= self.thresholds.take(at)
            if has_missing:
                goes_below |= np.isnan(value) & (self.missing_below.take(at) == 1)
            at = ways.take(2 * at + goes_below)
        leaves = self.values.take(self.below.take(at), axis=0)
        found: Float64 = leaves.sum(axis=0, dtype=np.float64) + self.base
        return found

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Features, and above and below of each node in turn; a leaf stays."""
        is_leaf = self.features == LEAF
        every = np.arange(len(self.features), dtype=np.int32)
        above = np.where(is_leaf, every, self.above)
        below = np.where(is_leaf, every, self.below)
        ways = np.stack([above, below], axis=1).ravel().astype(np.int32)
        return np.where(is_leaf, 0, self.features).astype(np.int32), ways


@dataclass(frozen=True, eq=False)
class ReferenceModel:
    """One model.

    Attributes:
        inputs: N, values of a row.
        body: What computes scores.
        link: From scores to outputs.
        affine: Offset and factor, float32 [N] each: a row is first
            ``(x - offset) * factor`` in float32; or None.
    """

    inputs: int
    body: Linear | Trees
    link: Link = "none"
    affine: tuple[Float32, Float32] | None = None

    @property
    def outputs(self) -> int:
        """Values of an output."""
        bias = self.body.bias if isinstance(self.body, Linear) else self.body.base
        return 2 if self.link == "pair" else len(bias)

    def infer(self, rows: Float32) -> Float32:
        """Run float32 [n, N]; return float32 [n, K].

        >>> body = Linear(np.array([[2, 0]], np.float32), np.array([1], np.float32))
        >>> ReferenceModel(2, body).infer(np.array([[3, 9]], np.float32)).tolist()
        [[7.0]]
        """
        if self.affine is not None:
            offset, factor = self.affine
            rows = (rows - offset) * factor
        scores = _LINKS[self.link](self.body.scores(rows))
        return scores.astype(np.float32)

    def encode(self) -> bytes:
        """Encode as canonical CBOR (RFM-1)."""
        wire: dict[int, Any] = {1: FORMAT, 2: self.inputs, 3: self.link}
        if self.affine is not None:
            wire[4] = [one.astype("<f4").tobytes() for one in self.affine]
        if isinstance(self.body, Linear):
            wire[5] = [
                len(self.body.bias),
                self.body.weights.astype("<f4").tobytes(),
                self.body.bias.astype("<f4").tobytes(),
            ]
        else:
            wire[6] = [
                len(self.body.base),
                *(
                    getattr(self.body, name).astype(kind).tobytes()
                    for name, kind in _TREE_ARRAYS
                ),
            ]
        return encode_cbor(wire)

    @classmethod
    def decode(cls, data: bytes) -> "ReferenceModel":
        """Parse a model; unknown keys are ignored.

        Raises:
            ReferenceModelError: Malformed, beyond a bound, or inconsistent.
        """
        try:
            model = _from_wire(decode_cbor(data, max_bytes=MAX_BYTES))
        except (CanonicalError, LookupError, TypeError, ValueError) as error:
            msg = f"reference model: malformed: {type(error).__name__}: {error}"
            raise ReferenceModelError(msg) from error
        return model


_TREE_ARRAYS: Final = (
    ("roots", "<i4"),
    ("features", "<i4"),
    ("thresholds", "<f4"),
    ("below", "<i4"),
    ("above", "<i4"),
    ("missing_below", "u1"),
    ("values", "<f4"),
    ("base", "<f4"),
)


def _softmax(scores: Float64) -> Float64:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Float64 = powers / powers.sum(axis=1, keepdims=True)
    return found


def _logistic(scores: Float64) -> Float64:
    found: Float64 = 0.5 * (1 + np.tanh(0.5 * scores))
    return found


def _pair(scores: Float64) -> Float64:
    second = _logistic(scores)
    return np.concatenate([1 - second, second], axis=1)


_LINKS: Final[dict[str, Callable[[Float64], Float64]]] = {
    "none": lambda scores: scores,
    "softmax": _softmax,
    "logistic": _logistic,
    "pair": _pair,
}


def _from_wire(wire: Any) -> ReferenceModel:
    if not isinstance(wire, dict) or wire[1] != FORMAT:
        msg = f"expected a map of format {FORMAT}"
        raise ValueError(msg)
    inputs = _count(wire[2], MAX_INPUTS)
    if wire[3] not in get_args(Link):
        msg = f"unknown link {wire[3]!r}"
        raise ValueError(msg)
    affine = None
    if 4 in wire:
        offset, factor = (_floats(one, (inputs,)) for one in wire[4])
        affine = (offset, factor)
    if (5 in wire) == (6 in wire):
        msg = "expected a linear model or trees"
        raise ValueError(msg)
    body = _linear(wire[5], inputs) if 5 in wire else _trees(wire[6], inputs)
    model = ReferenceModel(inputs, body, wire[3], affine)
    scores = len(body.bias if isinstance(body, Linear) else body.base)
    if wire[3] == "pair" and scores != 1:
        msg = f"link pair: expected one score, found {scores}"
        raise ValueError(msg)
    return model


def _linear(wire: Any, inputs: int) -> Linear:
    count, weights, bias = wire
    outputs = _count(count, MAX_OUTPUTS)
    return Linear(_floats(weights, (outputs, inputs)), _floats(bias, (outputs,)))


def _trees(wire: Any, inputs: int) -> Trees:
    outputs = _count(wire[0], MAX_OUTPUTS)
    if len(wire) != len(_TREE_ARRAYS) + 1 or not all(
        isinstance(one, bytes) for one in wire[1:]
    ):
        msg = f"expected {len(_TREE_ARRAYS)} arrays"
        raise ValueError(msg)
    found = {
        name: np.frombuffer(data, dtype=kind).astype(np.dtype(kind).newbyteorder("="))
        for (name, kind), data in zip(_TREE_ARRAYS, wire[1:], strict=True)
    }
    found["values"] = found["values"].reshape(-1, outputs)
    _check_arrays(found, inputs, outputs)
    return Trees(**found, depth=_depth(found))


def _check_arrays(found: dict[str, Any], inputs: int, outputs: int) -> None:
    nodes, roots = len(found["features"]), found["roots"]
    same = ("thresholds", "below", "above", "missing_below")
    _require(
        {
            "nodes of one length": all(len(found[one]) == nodes for one in same),
            f"1 to {MAX_TREES} trees": 1 <= len(roots) <= MAX_TREES,
            "a base a score": len(found["base"]) == outputs,
        }
    )
    features, below, above = found["features"], found["below"], found["above"]
    every = np.arange(nodes)
    is_child = (below > every) & (below < nodes) & (above > every) & (above < nodes)
    is_value = (below >= 0) & (below < len(found["values"])) & (above == 0)
    _require(
        {
            "roots that are nodes": ((roots >= 0) & (roots < nodes)).all(),
            "features": ((features >= LEAF) & (features < inputs)).all(),
            "children": np.where(features == LEAF, is_value, is_child).all(),
            "a way of missing values": (found["missing_below"] <= 1).all(),
            "finite values": np.isfinite(found["values"]).all(),
            "a finite base": np.isfinite(found["base"]).all(),
            "thresholds": not np.isnan(found["thresholds"]).any(),
        }
    )


def _require(rules: Mapping[str, Any]) -> None:
    broken = [name for name, holds in rules.items() if not holds]
    if broken:
        msg = f"trees: expected {'; '.join(broken)}"
        raise ValueError(msg)


def _depth(found: dict[str, Any]) -> int:
    """Return the longest way from a root to a leaf, by level; nodes may be shared."""
    level = np.unique(found["roots"])
    for depth in range(MAX_DEPTH + 1):
        inner = level[found["features"][level] != LEAF]
        if not len(inner):
            return depth
        level = np.unique(
            np.concatenate([found["below"][inner], found["above"][inner]])
        )
    msg = f"trees: deeper than {MAX_DEPTH}"
    raise ValueError(msg)


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        msg = f"expected a count up to {most}, found {value!r}"
        raise ValueError(msg)
    return value


def _floats(data: Any, shape: tuple[int, ...]) -> Float32:
    if not isinstance(data, bytes):
        msg = f"expected bytes, found {data!r}"
        raise TypeError(msg)
    found = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(found).all():
        msg = "expected finite numbers"
        raise ValueError(msg)
    return found
