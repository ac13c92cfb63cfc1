# SPDX-License-Identifier: Apache-2.0
"""What quantization does to each operator: ``edge-convert explain``.

Owns the figures of an operator and why it is float. The recipe explained is static int8
with the ranges that follow float best on the data.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from converter.candidate import Quantizer, Recipe
from converter.errors import ConvertModelError, ConvertQuantizeError
from converter.measure import sqnr_of
from converter.model import FloatModel
from converter.quantizers import open_quantizer, read_parts, time_parts
from converter.runtimes import open_engine
from converter.tensors import Float32, Frames

PROBE: Final = 32


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
        microseconds: On this host, or None where it cannot be told (LiteRT: alone;
            ONNX Runtime: in whole runs, and None where it was fused into another).
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
        model: A normalised model.
        frames: Calibration frames; the first, evenly spaced 32 are the probe.

    Raises:
        ConvertQuantizeError: Nothing of the model can be quantized.
    """
    quantizer = open_quantizer(model)
    quantizer.calibrate(frames)
    count = min(len(frames), PROBE)
    probe = frames.take(np.linspace(0, len(frames) - 1, count).astype(np.int64))
    scale = _Scale(quantizer, probe)
    tried: dict[Recipe, float] = {}
    for one in quantizer.recipes():
        if one.scheme == "static" and one.per_channel:
            found = scale.sqnr_db(one)
            tried |= {} if found is None else {one: found}
    if not tried:
        msg = "explain: no operator of this model can be quantized"
        raise ConvertQuantizeError(msg, next_step="build it; float is all it has")
    best = max(tried, key=lambda one: tried[one])
    reports = _reports(quantizer, best, tried[best], scale)
    return Explanation(best.id, tried[best], tuple(reports))


class _Scale:
    """Weighs recipes of one model on the probe frames."""

    def __init__(self, quantizer: Quantizer, probe: Float32) -> None:
        self._quantizer = quantizer
        self._probe = probe
        model = quantizer.model
        self._expected = open_engine(model.runtime, model.content).run(probe)

    def sqnr_db(self, recipe: Recipe) -> float | None:
        """Return a recipe's SQNR against float, or None where it cannot be made."""
        try:
            made = self._quantizer.make(recipe)
            outputs = open_engine(made.runtime, made.content).run(self._probe)
        except (ConvertQuantizeError, ConvertModelError):
            return None
        return sqnr_of(outputs, self._expected)


def _reports(
    quantizer: Quantizer, recipe: Recipe, sqnr_db: float, scale: _Scale
) -> list[OperatorReport]:
    made = quantizer.make(recipe)
    runtime = quantizer.model.runtime
    times = time_parts(runtime, made.content)
    sizes = {one.key: one.stored_bytes for one in read_parts(runtime, made.content)}
    operators = quantizer.operators
    reports: list[OperatorReport] = []
    for one in read_parts(runtime, quantizer.model.content):
        is_int8 = one.name in operators
        if one.key not in sizes and reports:  # part of the operator before it
            is_int8 = reports[-1].dtype == "int8"
        only, all_but = None, None
        if one.name in operators:
            others = tuple(sorted(name for name in operators if name != one.name))
            only = scale.sqnr_db(replace(recipe, kept_float=others))
            all_but = scale.sqnr_db(replace(recipe, kept_float=(one.name,)))
        reports.append(
            OperatorReport(
                name=one.name,
                type=one.type,
                dtype="int8" if is_int8 else "float32",
                only_db=only,
                all_but_db=all_but,
                gain_db=None if all_but is None else all_but - sqnr_db,
                microseconds=times.get(one.key),
                bytes=sizes.get(one.key, 0),
                why_float="" if is_int8 else f"the quantizer does not cover {one.type}",
            )
        )
    return reports


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
        " buys; µs on this host (LiteRT: cut out and alone; ONNX Runtime: its profile)"
    )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
