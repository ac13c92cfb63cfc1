# SPDX-License-Identifier: Apache-2.0
"""From results to the parts of a bundle and the report.

Owns what goes into the lineage and the metrics, and which outputs are the reference.
Computes no verdict; see ``assess``.
"""

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter import lint, pack
from converter.assess import Assessment
from converter.candidate import Candidate
from converter.choose import Choice, drop_upper_bound
from converter.data.dataset import Float32, Int64
from converter.inputs import Inputs
from converter.loaders.choose import source_digest
from converter.profiles import DEFAULT
from converter.reference import build_outputs, build_reference
from converter.report import BuildReport, VariantReport
from converter.request import BuildRequest
from converter.runtimes import open_engine
from edge_contract.steps import apply_post


@dataclass(frozen=True, eq=False)
class Work:
    """A build before it is packed."""

    request: BuildRequest
    inputs: Inputs
    assessment: Assessment
    choice: Choice


def assemble_parts(work: Work) -> pack.Parts:
    """Return what the bundle is made of."""
    request, inputs, assessment = work.request, work.inputs, work.assessment
    probabilities, truth = _reference_outputs(inputs, assessment)
    reference_outputs = build_outputs(inputs.labels, probabilities, truth)
    return pack.Parts(
        name=request.model_name,
        rule=inputs.rule,
        output=inputs.model.output,
        features=inputs.features,
        labels=inputs.labels,
        post=assessment.post,
        candidates=assessment.candidates,
        selected=dict.fromkeys((DEFAULT, *request.profiles), work.choice.chosen),
        reference=build_reference(
            inputs.calibration, inputs.rule, inputs.features, reference_outputs
        ),
        golden=assessment.golden,
        lineage=_lineage(request, inputs),
        metrics=_metrics(inputs, assessment),
    )


def _reference_outputs(
    inputs: Inputs, assessment: Assessment
) -> tuple[Float32, Int64 | None]:
    """Return the float model's outputs on all data, or on all that has labels."""
    base = assessment.candidates[0]
    sets = [inputs.calibration]
    if inputs.validation.sha256 != inputs.calibration.sha256:
        sets.append(inputs.validation)
    used = [one for one in sets if one.labels is not None] or sets
    frames = np.concatenate([one.frames for one in used])
    probabilities = apply_post(assessment.post, _run(base, frames))
    truths = [one.labels for one in used if one.labels is not None]
    return probabilities, np.concatenate(truths) if truths else None


def _run(candidate: Candidate, frames: Float32) -> Float32:
    return open_engine(candidate.runtime, candidate.content).run(frames)


def _lineage(request: BuildRequest, inputs: Inputs) -> dict[str, Any]:
    return {
        "model_sha256": source_digest(request.model),
        "calibration_sha256": inputs.calibration.sha256,
        "validation_sha256": inputs.validation.sha256,
        "framework": inputs.framework,
        "arguments": {
            "max_drop": repr(request.max_drop),
            "metric": inputs.metric,
            "objective": request.objective,
        },
        "toolchain": pack.toolchain(inputs.toolchain),
    }


def _metrics(inputs: Inputs, assessment: Assessment) -> dict[str, Any]:
    return {
        one.id: {
            inputs.metric: f"{assessment.quality[one.id].accuracy:.6f}",
            "correct": str(int(assessment.quality[one.id].correct.sum())),
            "samples": str(len(inputs.validation.frames)),
        }
        for one in assessment.candidates
    }


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
        metric=inputs.metric,
        samples=len(inputs.validation.frames),
        max_drop=request.max_drop,
        objective=request.objective,
        host=f"{platform.machine()}, {platform.system()}",
        runtime=f"{pack.RUNTIME} {pack.runtime_version()}",
        parity_inputs=inputs.parity.inputs,
        parity_sqnr_db=inputs.parity.sqnr_db,
        variants=tuple(_variant_report(one, work) for one in assessment.candidates),
        skipped=dict(assessment.skipped),
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


def _variant_report(one: Candidate, work: Work) -> VariantReport:
    measured, choice = work.assessment, work.choice
    quality, latency = measured.quality[one.id], measured.latency[one.id]
    pair = measured.pair_with_float(one)
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
