# SPDX-License-Identifier: Apache-2.0
"""Whether one model computes what another one does: ``edge-convert verify``.

Owns the findings and their codes. Works on files that nothing here has made: a float
file that is none, a conversion that lost its biases, int8 inputs that are scaled here,
saturating, as a device must.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from converter.data.npz import NpzEntries
from converter.errors import ConvertShapeError, ConvertUsageError
from converter.litert.facts import Facts, read_facts
from converter.litert.probe import probe
from converter.litert.versions import find_lies
from converter.loaders import open_source
from converter.measure import sqnr_of
from converter.metrics.paired import Paired, drop_upper_bound
from converter.tensors import Float32
from edge_contract.bundle import Bundle
from edge_contract.steps import observed_steps

Severity = Literal["error", "warning"]
MIN_INPUTS: Final = 64
FLOAT_SQNR_DB: Final = 80.0
QUANTIZED_SQNR_DB: Final = 20.0
_SEED: Final = 20_260_101
_BUNDLE: Final = ".bundle"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or odd."""

    code: str
    severity: Severity
    message: str


@dataclass(frozen=True)
class Verification:
    """One model against another.

    Attributes:
        model: What was verified.
        against: What it was compared with, or None.
        inputs: How many inputs were run.
        sqnr_db: Outputs against the other's, or None.
        max_abs: Largest difference, or None.
        agreement: Share of inputs with the same largest output; None for one value.
        disagreement_upper: Upper end of the 95 % interval of the share that differ.
        required_db: What was asked.
        findings: Errors first.
    """

    model: str
    against: str | None
    inputs: int
    sqnr_db: float | None
    max_abs: float | None
    agreement: float | None
    disagreement_upper: float | None
    required_db: float
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is an error."""
        return all(one.severity != "error" for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, eq=False)
class Runnable:
    """A model that can be run, whatever it is."""

    name: str
    run: Callable[[Float32], Float32]
    shape: tuple[int, ...] | None
    facts: Facts | None = None
    lies: tuple[str, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether it stores integer weights."""
        return self.facts is not None and bool(self.facts.integer_weights)


def verify(
    model: Path,
    against: Path | None,
    *,
    data: Path | None = None,
    min_sqnr_db: float | None = None,
    trust_pickle: bool = False,
) -> tuple[Verification, ...]:
    """Compare a model, or each variant of a bundle, with another model.

    Args:
        model: What to verify: a bundle or any source model.
        against: A source model; None looks at the file alone.
        data: An ``.npz`` file with frames ``x``; generated inputs where None.
        min_sqnr_db: What is asked; by kind where None: 80 dB for a float file, 20 dB
            for a quantized one.
        trust_pickle: Whether a file may run code.

    Raises:
        ConvertError: A file cannot be read or run.
    """
    with ExitStack() as stack:
        opened = partial(_open, stack=stack, trust_pickle=trust_pickle)
        other = None if against is None else opened(against)
        candidates = (
            _open_bundle(model, stack) if model.suffix == _BUNDLE else [opened(model)]
        )
        shape = candidates[0].shape or (None if other is None else other.shape)
        inputs = _inputs(data, shape)
        if other is None:
            return tuple(_look_at(one, inputs, min_sqnr_db) for one in candidates)
        expected = other.run(inputs)
        return tuple(
            _compare(one, other.name, inputs, expected, min_sqnr_db)
            for one in candidates
        )


def format_verification(found: Verification) -> str:
    """Return a verification as lines of text."""
    against = f" against {found.against}" if found.against else ""
    lines = [f"{found.model}{against}: {'ok' if found.ok else 'NOT OK'}"]
    if found.sqnr_db is not None and found.max_abs is not None:
        lines.append(
            f"  outputs     {found.sqnr_db:.1f} dB (asked: {found.required_db:g})"
            f" on {found.inputs} inputs, largest difference {found.max_abs:.3g}"
        )
    if found.agreement is not None and found.disagreement_upper is not None:
        lines.append(
            f"  winners     the same on {found.agreement:.2%}"
            f" (differ on at most {found.disagreement_upper:.2%}, 95 %)"
        )
    lines += [
        f"  {one.severity:11} {one.code}: {one.message}" for one in found.findings
    ]
    return "\n".join(lines)


def _compare(
    one: Runnable,
    against: str,
    inputs: Float32,
    expected: Float32,
    min_sqnr_db: float | None,
) -> Verification:
    found = one.run(inputs)
    if found.shape != expected.shape:
        msg = f"{one.name}: gives outputs {list(found.shape)}, {against}"
        msg += f" {list(expected.shape)}"
        raise ConvertShapeError(msg, next_step="compare models of the same output")
    asked = _asked(one, min_sqnr_db)
    sqnr_db = sqnr_of(found, expected)
    flat, wanted = (each.reshape(len(inputs), -1) for each in (found, expected))
    agreement = upper = None
    if flat.shape[1] > 1:
        differ = int((flat.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        agreement = 1 - differ / len(inputs)
        upper = drop_upper_bound(Paired(differ, 0, len(inputs)))
    findings = _findings(one, found, sqnr_db, asked)
    return Verification(
        model=one.name,
        against=against,
        inputs=len(inputs),
        sqnr_db=sqnr_db,
        max_abs=float(np.abs(found - expected).max()),
        agreement=agreement,
        disagreement_upper=upper,
        required_db=asked,
        findings=tuple(sorted(findings, key=lambda each: (each.severity, each.code))),
    )


def _look_at(one: Runnable, inputs: Float32, min_sqnr_db: float | None) -> Verification:
    """Return the findings about a file that is compared with nothing."""
    asked = _asked(one, min_sqnr_db)
    findings = _findings(one, one.run(inputs), None, asked)
    return Verification(
        one.name, None, len(inputs), None, None, None, None, asked, tuple(findings)
    )


def _asked(one: Runnable, min_sqnr_db: float | None) -> float:
    if min_sqnr_db is not None:
        return min_sqnr_db
    return QUANTIZED_SQNR_DB if one.is_quantized else FLOAT_SQNR_DB


def _findings(
    one: Runnable, outputs: Float32, sqnr_db: float | None, asked: float
) -> list[Finding]:
    found = []
    if not np.isfinite(outputs).all():
        found.append(Finding("not-finite", "error", "outputs hold NaN or infinity"))
    if sqnr_db is not None and sqnr_db < asked:
        text = f"expected {asked:g} dB, found {sqnr_db:.1f}"
        if not one.is_quantized:
            text += "; a float conversion that loses a bias looks like this"
        found.append(Finding("parity", "error", text))
    if one.lies:
        text = f"an old runtime would compute wrongly: {'; '.join(one.lies)}"
        found.append(Finding("operator-version", "error", text))
    if one.facts is not None:
        found += _facts_findings(one.facts)
    return found


def _facts_findings(facts: Facts) -> list[Finding]:
    found = []
    weights = facts.integer_weights
    if weights and facts.float_ends and not facts.has_activations:
        kinds = ", ".join(sorted(set(weights.values())))
        text = f"inputs and outputs are float32, but {len(weights)} weight tensors are"
        text += f" {kinds}: it was quantized"
        found.append(Finding("not-float", "error", text))
    checks = (
        (
            facts.has_old_codes,
            "old-codes",
            "operators are in the old field only",
        ),
        (not facts.has_signature, "no-signature", "inputs and outputs have no names"),
        (facts.is_dynamic, "dynamic-shape", "a size after the batch is not fixed"),
    )
    found += [Finding(code, "warning", text) for holds, code, text in checks if holds]
    return found


def _open(path: Path, stack: ExitStack, *, trust_pickle: bool) -> Runnable:
    if path.suffix.lower() == ".tflite":
        try:
            content = path.read_bytes()
        except OSError as error:
            msg = f"{path}: cannot be read: {error.strerror}"
            raise ConvertUsageError(msg, next_step="check the path") from error
        return open_litert(content, path.name)
    source = stack.enter_context(open_source(path, trust_pickle=trust_pickle))
    return Runnable(source.name, source.infer, None)


def _open_bundle(path: Path, stack: ExitStack) -> list[Runnable]:
    try:
        bundle = stack.enter_context(Bundle.open(path))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConvertUsageError(msg, next_step="check the path") from error
    manifest = bundle.manifest
    steps = observed_steps(manifest.post)
    if steps:
        msg = f"{path}: its variants end before {steps[0]['step']};"
        raise ConvertUsageError(
            f"{msg} the build has compared them with their source",
            next_step="verify a model file, or see `edge-convert inspect`",
        )
    return [
        open_litert(bundle.read(one.file), one.id)
        for one in manifest.variants
        if one.runtime in {"litert", "tflite-runtime"}
    ]


def open_litert(content: bytes, name: str) -> Runnable:
    """Open a LiteRT file of any kind; integer ends are scaled, saturating.

    Raises:
        ConvertModelError: The runtime refuses it.
    """
    probe(content, source=name)
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    found = interpreter.get_output_details()[0]

    def run(frames: Float32) -> Float32:
        outputs = []
        for position in range(len(frames)):
            frame = frames[position : position + 1].reshape(given["shape"])
            interpreter.set_tensor(given["index"], _quantized(frame, given))
            interpreter.invoke()
            outputs.append(_real(interpreter.get_tensor(found["index"]), found))
        return np.concatenate(outputs)

    shape = tuple(int(one) for one in given["shape"])
    return Runnable(name, run, shape, read_facts(content), find_lies(content))


def _quantized(frame: Float32, detail: dict[str, Any]) -> np.ndarray:
    kind = np.dtype(detail["dtype"])
    if kind == np.float32:
        return frame
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(kind)
    levels = np.rint(frame / scale) + zero_point
    saturated: np.ndarray = levels.clip(limits.min, limits.max).astype(kind)
    return saturated


def _real(values: np.ndarray, detail: dict[str, Any]) -> Float32:
    if values.dtype == np.float32:
        return values
    scale, zero_point = detail["quantization"]
    real: Float32 = (values.astype(np.float32) - zero_point) * np.float32(scale)
    return real


def _inputs(data: Path | None, shape: tuple[int, ...] | None) -> Float32:
    """Return frames of a file, or edge cases and seeded normal values."""
    if data is not None:
        entries = NpzEntries(data, is_scaled=True)
        frames = np.concatenate(list(entries.blocks()))
        wanted = None if shape is None else int(np.prod(shape[1:]))
        if wanted is not None and int(np.prod(frames.shape[1:])) != wanted:
            msg = f"{data.name}: x: expected frames {list(shape or ())[1:]}"
            msg += f", found {list(frames.shape[1:])}"
            raise ConvertShapeError(msg, next_step="give the model's inputs")
        return frames if shape is None else frames.reshape(len(frames), *shape[1:])
    if shape is None:
        msg = "without --data one of the models must be a .tflite file"
        raise ConvertUsageError(msg, next_step="pass --data FILE.npz with inputs x")
    random = np.random.Generator(np.random.PCG64(_SEED))
    normal = random.normal(size=(MIN_INPUTS - 4, *shape[1:])).astype(np.float32)
    edges = [np.full(shape[1:], one, np.float32) for one in (0.0, 1.0, -1.0, 10.0)]
    return np.concatenate([np.stack(edges), normal])
