# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: inputs with the outputs that every device must reproduce.

Owns docs/spec/golden.md: the file and the comparison. It runs no model; converter and
agent pass in what theirs gave.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import CanonicalError, GoldenError

Float32 = NDArray[np.float32]
ToleranceKind = Literal["lsb", "sqnr"]
MAX_GOLDEN_BYTES: Final = 16 * 1024 * 1024
MAX_VECTORS: Final = 256
EXACT_SQNR_DB: Final = 999.0
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a variant's outputs may be from the golden ones.

    Attributes:
        kind: ``lsb`` bounds the largest difference (static int8), ``sqnr`` the
            signal-to-quantization-noise ratio (float and dynamic).
        limit: The largest absolute difference, or the least SQNR in dB.
        margin: The winner must agree wherever the golden lead of the first over the
            second output exceeds this.
    """

    kind: ToleranceKind
    limit: float
    margin: float


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """The outcome of a comparison; ``ok`` is the verdict, the rest its evidence."""

    ok: bool
    finite: bool
    max_abs: float
    sqnr_db: float
    disagreements: int


@dataclass(frozen=True, eq=False)
class GoldenVectors:
    """Inputs (float32 [n, ...]) and, a variant, outputs (float32 [n, ...])."""

    inputs: Float32
    outputs: Mapping[str, Float32]
    tolerances: Mapping[str, Tolerance]

    def encode(self) -> bytes:
        """Encode as canonical CBOR."""
        return encode_cbor(
            {
                1: _FORMAT,
                2: _array_to_wire(self.inputs),
                3: {name: _array_to_wire(one) for name, one in self.outputs.items()},
                4: {
                    name: [one.kind, _real(one.limit), _real(one.margin)]
                    for name, one in self.tolerances.items()
                },
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "GoldenVectors":
        """Parse golden vectors.

        Raises:
            GoldenError: Malformed, too large, or not one tolerance a variant.
        """
        try:
            wire = decode_cbor(data, max_bytes=MAX_GOLDEN_BYTES)
            vectors = _from_wire(wire)
        except (
            CanonicalError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            msg = f"golden vectors: malformed: {type(error).__name__}: {error}"
            raise GoldenError(msg) from error
        _check(vectors)
        return vectors


def compare(actual: Float32, golden: Float32, tolerance: Tolerance) -> GoldenResult:
    """Compare outputs (float32 [n, ...]) with the golden ones.

    Raises:
        GoldenError: The shapes differ.
    """
    if actual.shape != golden.shape:
        msg = (
            f"golden vectors: expected outputs of shape {list(golden.shape)}, "
            f"found {list(actual.shape)}"
        )
        raise GoldenError(msg)
    if not np.isfinite(actual).all():
        return GoldenResult(
            ok=False,
            finite=False,
            max_abs=float("inf"),
            sqnr_db=float("-inf"),
            disagreements=len(golden),
        )
    rows = golden.astype(np.float64).reshape(len(golden), -1)
    other = actual.astype(np.float64).reshape(len(golden), -1)
    max_abs = float(np.abs(rows - other).max(initial=0.0))
    sqnr_db = signal_to_noise_db(rows, other)
    disagreements = _disagreements(rows, other, tolerance.margin)
    near = (
        max_abs <= tolerance.limit
        if tolerance.kind == "lsb"
        else sqnr_db >= tolerance.limit
    )
    return GoldenResult(
        ok=near and disagreements == 0,
        finite=True,
        max_abs=max_abs,
        sqnr_db=sqnr_db,
        disagreements=disagreements,
    )


def signal_to_noise_db(
    reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
) -> float:
    """Return the SQNR of ``other`` against ``reference`` in dB (999 where equal).

    >>> round(signal_to_noise_db(np.array([1.0]), np.array([0.9])), 3)
    20.0
    """
    signal = float((reference.astype(np.float64) ** 2).sum())
    noise = float(((reference.astype(np.float64) - other) ** 2).sum())
    if noise == 0:
        return EXACT_SQNR_DB
    ratio = signal / noise  # 0, too, where the noise is beyond all numbers
    return 10 * float(np.log10(ratio)) if ratio else float("-inf")


def _disagreements(
    golden: NDArray[np.float64], actual: NDArray[np.float64], margin: float
) -> int:
    if golden.shape[1] < 2:
        return 0
    ordered = np.partition(golden, -2, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > margin
    differ = golden.argmax(axis=1) != actual.argmax(axis=1)
    return int((clear & differ).sum())


def _array_to_wire(array: Float32) -> list[Any]:
    return [list(array.shape), array.astype("<f4").tobytes()]


def _array_from_wire(wire: Any) -> Float32:
    shape, data = wire
    if not all(type(one) is int and one > 0 for one in shape):
        msg = f"expected a shape, found {shape!r}"
        raise ValueError(msg)
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)


def _from_wire(wire: Any) -> GoldenVectors:
    if wire[1] != _FORMAT:
        msg = f"expected format {_FORMAT}, found {wire[1]!r}"
        raise ValueError(msg)
    tolerances = {}
    for name, (kind, limit, margin) in wire[4].items():
        if kind not in get_args(ToleranceKind):
            msg = f"unknown tolerance {kind!r}"
            raise ValueError(msg)
        tolerances[name] = Tolerance(kind, float(limit), float(margin))
    outputs = {name: _array_from_wire(one) for name, one in wire[3].items()}
    return GoldenVectors(_array_from_wire(wire[2]), outputs, tolerances)


def _check(vectors: GoldenVectors) -> None:
    count = len(vectors.inputs)
    if not 1 <= count <= MAX_VECTORS:
        msg = f"golden vectors: expected 1 to {MAX_VECTORS}, found {count}"
        raise GoldenError(msg)
    if set(vectors.outputs) != set(vectors.tolerances) or any(
        len(one) != count for one in vectors.outputs.values()
    ):
        msg = f"golden vectors: expected {count} outputs and a tolerance a variant"
        raise GoldenError(msg)
    arrays = [vectors.inputs, *vectors.outputs.values()]
    if not all(np.isfinite(one).all() for one in arrays):
        msg = "golden vectors: expected finite numbers"
        raise GoldenError(msg)


def _real(value: float) -> str:
    return repr(float(value))
