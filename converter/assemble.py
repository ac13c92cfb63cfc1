# SPDX-License-Identifier: Apache-2.0
"""From results to the parts of a bundle and the report.

Owns what goes into the lineage and the metrics, and which outputs are the reference.
Computes no verdict; see ``assess``.
"""

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter import pack
from converter.assess import Assessment
from converter.inputs import Inputs
from converter.loaders.choose import source_digest
from converter.measure import run_all
from converter.reference import build_outputs, build_reference, build_values
from converter.report import BuildReport, VariantReport
from converter.request import BuildRequest
from converter.search import Trial
from converter.tensors import Float32, Int64
from edge_contract.bundle import Bundle
from edge_contract.profile import OutputReference, ValueReference
from edge_contract.steps import apply_post


@dataclass(frozen=True, eq=False)
class Work:
    """A build before it is packed."""

    request: BuildRequest
    inputs: Inputs
    assessment: Assessment


def assemble_parts(work: Work) -> pack.Parts:
    """Return what the bundle is made of."""
    request, inputs, assessment = work.request, work.inputs, work.assessment
    return pack.Parts(
        name=request.model_name,
        rule=inputs.rule,
        meaning=inputs.meaning,
        output=inputs.model.output,
        features=inputs.features,
        labels=inputs.labels,
        packed=assessment.decision.packed,
        selected=assessment.decision.selected,
        reference=build_reference(
            inputs.calibration,
            inputs.rule,
            inputs.features,
            _output_reference(inputs, assessment),
            request.categorical,
        ),
        golden=assessment.goldens.of(assessment.decision.packed),
        lineage=_lineage(request, inputs, assessment),
        metrics=_metrics(inputs, assessment),
    )


def _output_reference(
    inputs: Inputs, assessment: Assessment
) -> OutputReference | ValueReference:
    raw, truth = _reference_outputs(inputs, assessment)
    if inputs.meaning.task == "regression":
        return build_values(raw)
    probabilities = apply_post(inputs.meaning.post, raw.reshape(len(raw), -1))
    return build_outputs(inputs.labels, probabilities, truth)


def _reference_outputs(
    inputs: Inputs, assessment: Assessment
) -> tuple[Float32, Int64 | None]:
    """Return the float model's outputs on all data, or on all that has labels."""
    base = assessment.decision.packed[0].candidate
    sets = [inputs.calibration]
    if inputs.validation.sha256 != inputs.calibration.sha256:
        sets.append(inputs.validation)
    used = [one for one in sets if one.labels is not None] or sets
    raw = np.concatenate([run_all(base, one.frames) for one in used])
    truths = [
        one.labels.astype(np.int64)
        for one in used
        if one.labels is not None and one.labels.dtype.kind == "i"
    ]
    return raw, np.concatenate(truths) if truths else None


def _lineage(
    request: BuildRequest, inputs: Inputs, assessment: Assessment
) -> dict[str, Any]:
    return {
        "model_sha256": source_digest(request.model),
        "calibration_sha256": inputs.calibration.sha256,
        "validation_sha256": inputs.validation.sha256,
        "framework": inputs.framework,
        "arguments": {
            "max_drop": repr(request.max_drop),
            "metric": inputs.metric.name,
            "objective": request.objective,
            **_likeness(request),
        },
        "recipes": {
            one.id: pack.recipe_document(one.candidate.recipe)
            for one in assessment.decision.packed
        },
        "toolchain": pack.toolchain(inputs.toolchain),
    }


def _likeness(request: BuildRequest) -> dict[str, str]:
    if request.like is None:
        return {}
    with Bundle.open(request.like) as earlier:
        return {"like": earlier.digest}


def _metrics(inputs: Inputs, assessment: Assessment) -> dict[str, Any]:
    found = {}
    for one in assessment.decision.packed:
        compared = assessment.quality[one.candidate.id].comparison
        found[one.id] = {
            compared.metric: f"{compared.other:.6f}",
            "samples": str(compared.samples),
        }
        if compared.metric in {"top1", "agreement"} and inputs.meaning.classes:
            right = round(compared.other * compared.samples)
            found[one.id]["correct"] = str(right)
    return found


def assemble_report(
    work: Work, parts: pack.Parts, digest: str, seconds: float
) -> BuildReport:
    """Return what is shown of a build, host figures included."""
    request, inputs, assessment = work.request, work.inputs, work.assessment
    return BuildReport(
        bundle=str(request.output),
        digest=digest,
        signed=request.sign_key is not None,
        name=parts.name,
        source=request.model.name,
        framework=inputs.framework,
        task=inputs.meaning.task,
        metric=inputs.metric.name,
        samples=len(inputs.validation.frames),
        max_drop=request.max_drop,
        objective=request.objective,
        host=f"{platform.machine()}, {platform.system()}",
        runtime=f"{pack.RUNTIME} {pack.runtime_version()}",
        parity_inputs=inputs.parity.inputs,
        parity_sqnr_db=inputs.parity.sqnr_db,
        variants=tuple(_variant_report(one, work) for one in assessment.trials),
        skipped=dict(assessment.skipped),
        selected=dict(parts.selected),
        observe=inputs.rule.observe,
        features=parts.features,
        labels=parts.labels,
        ref_id=parts.reference.ref_id.hex(),
        unit_rows=parts.reference.unit_rows,
        groups=parts.reference.groups,
        golden_vectors=len(parts.golden.inputs),
        warnings=inputs.warnings,
        search_seconds=round(assessment.search_seconds, 1),
        is_cut_short=assessment.is_cut_short,
        seconds=round(seconds, 1),
    )


def _variant_report(trial: Trial, work: Work) -> VariantReport:
    one, measured = trial.candidate, work.assessment
    quality, latency = measured.quality[one.id], measured.latency[one.id]
    compared = quality.comparison
    is_float = trial.stage == "float"
    decision = measured.decision
    packed = {each.candidate.id: each for each in decision.packed}
    checks = measured.goldens.checked(one).checks if one.id in packed else ()
    chosen_for = tuple(
        name for name, choice in decision.choices.items() if choice.chosen == one.id
    )
    return VariantReport(
        id=one.id,
        runtime=one.runtime,
        dtype=one.dtype,
        stage=trial.stage,
        size_bytes=len(one.content),
        metric_value=compared.other,
        drop=0.0 if is_float else compared.drop,
        drop_upper=0.0 if is_float else compared.upper,
        sqnr_db=quality.sqnr_db,
        latency_median_us=latency.median_us,
        latency_p99_us=latency.p99_us,
        latency_calls=latency.calls,
        ram_bytes=measured.ram.get(one.id),
        kernels={
            check.kernels: f"{check.result.max_abs:.3g} ({check.result.sqnr_db:.1f} dB)"
            for check in checks
        },
        kept_float=one.recipe.kept_float,
        float_operators=one.float_operators,
        packed=one.id in packed,
        chosen_for=chosen_for,
        reasons={
            name: choice.reasons.get(one.id, "")
            for name, choice in decision.choices.items()
        },
    )
