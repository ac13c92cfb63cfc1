# SPDX-License-Identifier: Apache-2.0
"""The build: from a source model and data to a bundle and a report.

Owns the order of the steps and nothing else; each step is a module that can be read
alone. A failed build leaves no output: the bundle is written last, in one rename.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edge_contract import signing
from edge_contract.errors import KeyFormatError
from edge_contract.golden import GoldenVectors
from edge_contract.manifest import check_model_name
from edge_contract.steps import apply_post

from converter import lint, outputs, pack, vectors
from converter.calibration import activation_ranges
from converter.candidates import INT8_ID, Candidate, float_candidate, int8_candidate
from converter.choose import Choice, Figures, Paired, choose, drop_upper_bound
from converter.data import (
    Dataset,
    Float32,
    FrameRule,
    Int64,
    frame_rule,
    load_dataset,
)
from converter.engine import Engine
from converter.errors import (
    ConvertDataError,
    ConvertGoldenError,
    ConvertModelError,
    ConvertOutputError,
    ConvertQuantizeError,
    ConvertUsageError,
)
from converter.loaders import Source, open_source
from converter.loaders.choose import source_digest
from converter.measure import (
    Latency,
    Quality,
    measure_latency,
    measure_quality,
    measure_ram,
    paired,
)
from converter.normalise import FloatModel, normalise
from converter.parity import Parity, check_parity
from converter.profiles import DEFAULT, load_profile
from converter.reference import build_outputs, build_reference
from converter.report import BuildReport, VariantReport
from converter.request import BuildRequest, Metric

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The model and the data, loaded and found good."""

    model: FloatModel
    rule: FrameRule
    calibration: Dataset
    validation: Dataset
    metric: Metric
    features: tuple[str, ...]
    labels: tuple[str, ...]
    parity: Parity
    framework: str
    toolchain: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Measured:
    """The candidates and what they do; float comes first."""

    candidates: tuple[Candidate, ...]
    skipped: dict[str, str]
    post: outputs.PostSteps
    quality: dict[str, Quality]
    latency: dict[str, Latency]
    ram: dict[str, int]
    golden: GoldenVectors
    checks: dict[str, tuple[vectors.KernelCheck, ...]]


def build(request: BuildRequest, progress: Progress) -> BuildReport:
    """Build a bundle.

    Args:
        request: What to build.
        progress: Called with the name of each step as it begins.

    Raises:
        EdgeError: What was wrong, and what to do about it; nothing was written.
    """
    start = time.monotonic()
    sign_key = _check_request(request)
    try:
        inputs = _load(request, progress)
        measured = _measure(request, inputs, progress)
        choice = _choose(request, measured)
        progress("packing")
        parts = _parts(request, inputs, measured, choice)
        digest = pack.write(request.output, parts, sign_key)
    except OSError as error:
        msg = f"a file could not be written: {error}"
        raise ConvertOutputError(msg, next_step="free some space") from error
    seconds = time.monotonic() - start
    return _report(request, inputs, measured, choice, parts, digest, seconds)


def _check_request(request: BuildRequest) -> bytes | None:
    """Refuse, before the work begins, what would fail at its end."""
    for name in request.profiles:
        load_profile(name)
    if not 0 <= request.max_drop < 1:
        msg = f"--max-drop: expected 0 % to 100 %, found {request.max_drop:.2%}"
        raise ConvertUsageError(msg, next_step="pass for example --max-drop 1%")
    check_model_name(_name(request))
    pack.check_target(request.output)
    if request.sign_key is None:
        return None
    try:
        key = request.sign_key.read_bytes()
    except OSError as error:
        msg = f"--sign-key {request.sign_key}: cannot be read: {error.strerror}"
        raise KeyFormatError(msg, next_step="check the path") from error
    signing.sign(key, b"")
    return key


def _name(request: BuildRequest) -> str:
    return request.name or request.model.stem.lower()


def _load(request: BuildRequest, progress: Progress) -> _Inputs:
    progress(f"loading {request.model.name}")
    with open_source(request.model) as source:
        model = normalise(source.export(), source=source.name)
        rule = frame_rule(model.input, request.observe, request.hop)
        classes = outputs.class_count(model.output)
        progress("reading data")
        calibration = _load_data(request.calibration, rule, "calibration")
        validation = calibration
        if request.validation is not None:
            validation = _load_data(request.validation, rule, "validation")
        lint.check_labels(calibration, classes)
        lint.check_labels(validation, classes)
        progress("checking float parity")
        parity = check_parity(source, model, calibration.frames)
        return _Inputs(
            model=model,
            rule=rule,
            calibration=calibration,
            validation=validation,
            metric=_metric(request, validation),
            features=outputs.feature_names(request.features, calibration, rule),
            labels=outputs.label_names(request.labels, calibration, classes),
            parity=parity,
            framework=source.framework,
            toolchain=pack.toolchain(source.toolchain),
        )


def _load_data(path: Path, rule: FrameRule, use: str) -> Dataset:
    data = load_dataset(path, rule)
    lint.check_count(data, use)
    return data


def _metric(request: BuildRequest, validation: Dataset) -> Metric:
    if request.metric == "top1" and validation.labels is None:
        msg = f"{validation.source}: --metric top1 needs labels 'y', found none"
        raise ConvertDataError(msg, next_step="add them, or use --metric agreement")
    return request.metric or ("agreement" if validation.labels is None else "top1")


def _measure(
    request: BuildRequest, inputs: _Inputs, progress: Progress
) -> _Measured:
    candidates, skipped = [float_candidate(inputs.model)], {}
    progress("calibrating and quantizing")
    try:
        ranges = activation_ranges(inputs.model, inputs.calibration.frames)
        candidates.append(int8_candidate(inputs.model, ranges))
    except (ConvertQuantizeError, ConvertModelError) as error:
        skipped[INT8_ID] = error.message
    progress("measuring accuracy")
    frames = inputs.validation.frames
    labels = None if inputs.metric == "agreement" else inputs.validation.labels
    raw = Engine(inputs.model.content).run(frames)
    post = outputs.post_steps(raw, inputs.model.output)
    quality = measure_quality(candidates, frames, labels, post)
    progress("checking golden vectors on every kernel set")
    picked = vectors.pick_inputs(frames, quality[candidates[0].id].probabilities)
    golden, checks, refused = vectors.make_vectors(candidates, picked)
    if candidates[0].id in refused:
        raise ConvertGoldenError(refused[candidates[0].id])
    candidates = [one for one in candidates if one.id not in refused]
    progress("measuring latency")
    latency = measure_latency(candidates, frames)
    ram = {}
    if request.objective == "ram":
        ram = {one.id: measure_ram(one, inputs.model.input.shape) for one in candidates}
    return _Measured(
        tuple(candidates), skipped | refused, post, quality, latency, ram, golden, checks
    )


def _choose(request: BuildRequest, measured: _Measured) -> Choice:
    base = measured.candidates[0]
    figures = {
        one.id: Figures(
            paired=None if one is base else _pair(measured, one),
            latency_us=measured.latency[one.id].median_us,
            size_bytes=len(one.content),
            ram_bytes=measured.ram.get(one.id),
        )
        for one in measured.candidates
    }
    return choose(
        figures,
        objective=request.objective,
        max_drop=request.max_drop,
        float_id=base.id,
    )


def _pair(measured: _Measured, one: Candidate) -> Paired:
    base = measured.candidates[0]
    return paired(measured.quality[base.id], measured.quality[one.id])


def _parts(
    request: BuildRequest, inputs: _Inputs, measured: _Measured, choice: Choice
) -> pack.Parts:
    probabilities, truth = _reference_outputs(inputs, measured)
    reference_outputs = build_outputs(inputs.labels, probabilities, truth)
    return pack.Parts(
        name=_name(request),
        rule=inputs.rule,
        output=inputs.model.output,
        features=inputs.features,
        labels=inputs.labels,
        post=measured.post,
        candidates=measured.candidates,
        selected=dict.fromkeys((DEFAULT, *request.profiles), choice.chosen),
        reference=build_reference(
            inputs.calibration, inputs.rule, inputs.features, reference_outputs
        ),
        golden=measured.golden,
        lineage=_lineage(request, inputs),
        metrics=_metrics(inputs, measured),
    )


def _reference_outputs(
    inputs: _Inputs, measured: _Measured
) -> tuple[Float32, Int64 | None]:
    """Return the float model's outputs on all data, or on all that has labels."""
    base = measured.candidates[0]
    sets = [inputs.calibration]
    if inputs.validation is not inputs.calibration:
        sets.append(inputs.validation)
    labelled = [one for one in sets if one.labels is not None]
    used = labelled or sets
    frames = np.concatenate([one.frames for one in used])
    probabilities = apply_post(measured.post, Engine(base.content).run(frames))
    truths = [one.labels for one in used if one.labels is not None]
    return probabilities, np.concatenate(truths) if truths else None


def _lineage(request: BuildRequest, inputs: _Inputs) -> dict[str, object]:
    validated = inputs.validation is not inputs.calibration
    return {
        "model_sha256": source_digest(request.model),
        "calibration_sha256": inputs.calibration.sha256,
        "validation_sha256": inputs.validation.sha256 if validated else None,
        "framework": inputs.framework,
        "arguments": {
            "max_drop": repr(request.max_drop),
            "metric": inputs.metric,
            "objective": request.objective,
        },
        "toolchain": inputs.toolchain,
    }


def _metrics(inputs: _Inputs, measured: _Measured) -> dict[str, object]:
    return {
        one.id: {
            inputs.metric: f"{measured.quality[one.id].accuracy:.6f}",
            "correct": str(int(measured.quality[one.id].correct.sum())),
            "samples": str(len(inputs.validation.frames)),
        }
        for one in measured.candidates
    }


def _report(  # noqa: PLR0913 - the whole of a build
    request: BuildRequest,
    inputs: _Inputs,
    measured: _Measured,
    choice: Choice,
    parts: pack.Parts,
    digest: str,
    seconds: float,
) -> BuildReport:
    return BuildReport(
        bundle=str(request.output),
        digest=digest,
        signed=request.sign_key is not None,
        name=parts.name,
        source=request.model.name,
        framework=inputs.framework,
        metric=inputs.metric,
        samples=len(inputs.validation.frames),
        max_drop=request.max_drop,
        objective=request.objective,
        host=f"{platform.machine()}, {platform.system()}",
        runtime=f"{pack.RUNTIME} {pack.runtime_version()}",
        parity_inputs=inputs.parity.inputs,
        parity_sqnr_db=inputs.parity.sqnr_db,
        variants=tuple(
            _variant_report(one, measured, choice) for one in measured.candidates
        ),
        skipped=measured.skipped,
        selected=dict(parts.selected),
        observe=inputs.rule.observe,
        features=parts.features,
        labels=parts.labels,
        ref_id=parts.reference.ref_id.hex(),
        unit_rows=parts.reference.unit_rows,
        groups=parts.reference.groups,
        golden_vectors=len(parts.golden.inputs),
        warnings=lint.warnings_of(
            inputs.calibration, inputs.validation, parts.features, len(parts.labels)
        ),
        seconds=round(seconds, 1),
    )


def _variant_report(
    one: Candidate, measured: _Measured, choice: Choice
) -> VariantReport:
    quality, latency = measured.quality[one.id], measured.latency[one.id]
    pair = _pair(measured, one)
    is_float = one is measured.candidates[0]
    return VariantReport(
        id=one.id,
        dtype=one.dtype,
        size_bytes=len(one.content),
        accuracy=quality.accuracy,
        drop=pair.drop,
        drop_upper=0.0 if is_float else drop_upper_bound(pair),
        sqnr_db=quality.sqnr_db,
        latency_median_us=latency.median_us,
        latency_p99_us=latency.p99_us,
        latency_calls=latency.calls,
        ram_bytes=measured.ram.get(one.id),
        kernels={
            check.kernels: f"{check.result.max_abs:.3g} ({check.result.sqnr_db:.1f} dB)"
            for check in measured.checks[one.id]
        },
        float_operators=one.float_operators,
        packed=True,
        chosen=one.id == choice.chosen,
        reason=choice.reasons[one.id],
    )
