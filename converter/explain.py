# SPDX-License-Identifier: Apache-2.0
"""What quantization does to each operator: ``edge-convert explain``.

Owns the figures of an operator and why it is float. The recipe explained is static int8
with the ranges that follow float best on the data. LiteRT only.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from converter.candidate import Candidate, Recipe
from converter.errors import ConvertQuantizeError
from converter.litert.normalise import operator_name
from converter.litert.parts import stored_bytes, time_operators
from converter.litert.quantizer import LitertQuantizer
from converter.measure import sqnr_of
from converter.model import FloatModel
from converter.runtimes import open_engine
from converter.tensors import Float32, Frames

PROBE: Final = 32
_RANGES: Final = ("p99.99", "minmax", "mse", "p99.9")


@dataclass(frozen=True)
class OperatorReport:
    """One operator.

    Attributes:
        name: Of its output tensor.
        type: As the schema calls it.
        dtype: ``int8`` or ``float32`` in the explained variant.
        only_db: SQNR of the output with this operator alone quantized.
        all_but_db: SQNR with this operator alone float.
        gain_db: What reverting it buys: ``all_but_db`` less the variant's own SQNR.
        microseconds: Alone, on this host, or None where it cannot run alone.
        bytes: Of what it stores, in the variant.
        why_float: Empty where it is int8.
    """

    name: str
    type: str
    dtype: str
    only_db: float | None
    all_but_db: float | None
    gain_db: float | None
    microseconds: float | None
    bytes: int
    why_float: str


@dataclass(frozen=True)
class Explanation:
    """A variant, operator by operator in the order of the graph."""

    variant: str
    sqnr_db: float
    operators: tuple[OperatorReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        return asdict(self)


def explain(model: FloatModel, frames: Frames) -> Explanation:
    """Quantize, and say what each operator does to the output.

    Args:
        model: A normalised LiteRT model.
        frames: Calibration frames; the first, evenly spaced 32 are the probe.

    Raises:
        ConvertQuantizeError: Nothing of the model can be quantized.
    """
    quantizer = LitertQuantizer(model)
    quantizer.calibrate(frames)
    count = min(len(frames), PROBE)
    probe = frames.take(np.linspace(0, len(frames) - 1, count).astype(np.int64))
    expected = open_engine("litert", model.content).run(probe)

    def score(recipe: Recipe) -> float:
        content = quantizer.make(recipe).content
        return sqnr_of(open_engine("litert", content).run(probe), expected)

    tried = {Recipe("litert", "static", one): 0.0 for one in _RANGES}
    tried = {one: score(one) for one in tried}
    best = max(tried, key=lambda one: tried[one])
    return Explanation(
        best.id,
        tried[best],
        tuple(_reports(quantizer, best, tried[best], (probe, expected))),
    )


def _reports(
    quantizer: LitertQuantizer,
    recipe: Recipe,
    sqnr_db: float,
    probe: tuple[Float32, Float32],
) -> list[OperatorReport]:
    made = quantizer.make(recipe)
    times = dict(_times(made))
    source: Any = flatbuffer_utils.read_model_from_bytearray(
        bytearray(quantizer.model.content)
    )
    variant: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(made.content))
    sizes = {name: stored_bytes(variant, one) for name, one in _operators(variant)}
    reports = []
    for name, one in _operators(source):
        is_int8 = name in quantizer.operators
        effects = _effects(quantizer, recipe, name, probe) if is_int8 else (None, None)
        all_but = effects[1]
        code = source.operatorCodes[one.opcodeIndex].builtinCode
        reports.append(
            OperatorReport(
                name=name,
                type=operator_name(code),
                dtype="int8" if is_int8 else "float32",
                only_db=effects[0],
                all_but_db=all_but,
                gain_db=None if all_but is None else all_but - sqnr_db,
                microseconds=times.get(name),
                bytes=sizes.get(name, 0),
                why_float="" if is_int8 else "the quantizer does not cover it",
            )
        )
    return reports


def _effects(
    quantizer: LitertQuantizer,
    recipe: Recipe,
    name: str,
    probe: tuple[Float32, Float32],
) -> tuple[float | None, float | None]:
    others = tuple(sorted(one for one in quantizer.operators if one != name))
    found: list[float | None] = []
    for kept in (others, (name,)):
        try:
            made = quantizer.make(replace(recipe, kept_float=kept))
        except ConvertQuantizeError:
            found.append(None)
            continue
        outputs = open_engine("litert", made.content).run(probe[0])
        found.append(sqnr_of(outputs, probe[1]))
    return found[0], found[1]


def _times(made: Candidate) -> list[tuple[str, float]]:
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(made.content))
    names = [name for name, _ in _operators(model)]
    timed = zip(names, time_operators(made.content), strict=True)
    return [(name, one) for name, one in timed if not math.isnan(one)]


def _operators(model: Any) -> list[tuple[str, Any]]:
    graph = model.subgraphs[0]
    return [
        (
            graph.tensors[one.outputs[0]]
            .name.decode(errors="replace")
            .removesuffix("_quantized"),
            one,
        )
        for one in graph.operators
    ]


def format_explanation(found: Explanation) -> str:
    """Return an explanation as lines of text."""
    lines = [
        f"{found.variant}: {found.sqnr_db:.1f} dB against float",
        f"{'operator':22} {'dtype':8} {'alone':>8} {'revert':>8} {'µs':>8}     bytes",
    ]
    for one in found.operators:
        cells = (
            f"{one.type:22} {one.dtype:8} {_db(one.only_db):>8}"
            f" {_gain(one.gain_db):>8} {_number(one.microseconds):>8} {one.bytes:9}"
        )
        why = f"  float: {one.why_float}" if one.why_float else ""
        lines.append(f"{cells}  {one.name.rsplit(';', 1)[-1][-40:]}{why}")
    lines.append(
        "alone: SQNR with only this operator int8, in dB; revert: what float for it"
        " buys; µs of the operator cut out and run alone on this host"
    )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
