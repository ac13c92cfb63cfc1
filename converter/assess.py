# SPDX-License-Identifier: Apache-2.0
"""The candidates of a build: searched, measured, and one chosen a device.

Owns the order of these steps and which failures drop a candidate instead of ending the
build: only the first runtime's float must succeed. The choice is ``decide``'s.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from converter import vectors
from converter.candidate import Candidate, Quantizer, Recipe
from converter.choose import Figures
from converter.decide import Decision, Goldens, Rules, decide
from converter.errors import ConvertError
from converter.inputs import Inputs, Progress
from converter.judging import MeasuringJudge, pick_probe
from converter.like import Earlier, LikeQuantizer
from converter.measure import (
    Latency,
    Quality,
    Yardstick,
    measure_latency,
    measure_ram,
)
from converter.outputs import PostSteps
from converter.quantizers import open_quantizer
from converter.request import BuildRequest
from converter.search import Limits, Outcome, Trial, run_search
from converter.tensors import Float32

# Reverts for quality alone may cost this much; the same as a tie in `choose`.
REVERT_COST = 0.08


@dataclass(frozen=True, eq=False)
class Assessment:
    """The candidates, what they do, and which are chosen.

    Attributes:
        trials: All that were measured, float first.
        skipped: Candidate id to the reason why it is not among them.
        post: Steps from raw outputs to what the metric compares.
        outputs: float32 [n, K], float's outputs on the validation frames after them.
        quality: Candidate id to the comparison with float.
        latency: Candidate id to time on this host.
        ram: Candidate id to memory on this host, where it was asked for.
        decision: What was chosen for each device profile.
        goldens: Golden vectors, and how this host's kernels and old ones do on them.
        search_seconds: How long the search took.
        is_cut_short: Whether its time ran out.
    """

    trials: tuple[Trial, ...]
    skipped: Mapping[str, str]
    post: PostSteps
    outputs: Float32
    quality: Mapping[str, Quality]
    latency: Mapping[str, Latency]
    ram: Mapping[str, int]
    decision: Decision
    goldens: Goldens
    search_seconds: float
    is_cut_short: bool


@dataclass(eq=False)
class _Measured:
    """What is known while the choice is being made."""

    trials: list[Trial]
    skipped: dict[str, str]
    quality: dict[str, Quality] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    ram: dict[str, int] = field(default_factory=dict)

    def drop(self, name: str, reason: str) -> None:
        """Take a candidate out."""
        self.trials = [one for one in self.trials if one.candidate.id != name]
        self.skipped[name] = reason


def assess(request: BuildRequest, inputs: Inputs, progress: Progress) -> Assessment:
    """Search, measure and choose.

    Raises:
        ConvertError: No choice holds; see ``decide``.
    """
    start = time.monotonic()
    earlier = None if request.like is None else Earlier.read(request.like)
    quantizers = _open_quantizers(inputs, earlier)
    first = quantizers[0]
    yardstick = Yardstick(
        first.make(first.recipes()[0]),
        inputs.validation.frames,
        post=inputs.meaning.post,
        metric=inputs.metric,
        truth=inputs.truth,
        clusters=inputs.clusters,
    )
    yardstick.measure(yardstick.base)  # a metric that fails, fails before the search
    outcomes = [
        _searched(request, inputs, one, yardstick, progress, start)
        for one in quantizers
    ]
    seconds = time.monotonic() - start
    probe = pick_probe(inputs.validation.frames)
    measured = _measured(request, inputs, outcomes, yardstick, probe, progress)
    progress("choosing, and checking golden vectors on every kernel set")
    goldens = Goldens(
        _golden_inputs(inputs, earlier, yardstick.outputs),
        compares_winners=bool(inputs.meaning.classes),
    )
    decision = decide(
        [one.candidate for one in measured.trials],
        _figures(request, inputs, measured),
        inputs.profiles,
        Rules(
            request.objective,
            request.max_drop,
            request.require_quantized,
            request.device_check,
        ),
        goldens,
    )
    return Assessment(
        tuple(measured.trials),
        measured.skipped | dict(decision.dropped),
        inputs.meaning.post,
        yardstick.outputs,
        measured.quality,
        measured.latency,
        measured.ram,
        decision,
        goldens,
        seconds,
        any(one.is_cut_short for one in outcomes),
    )


def _open_quantizers(inputs: Inputs, earlier: Earlier | None) -> list[Quantizer]:
    found = [open_quantizer(one) for one in inputs.models]
    if earlier is None:
        return found
    return [LikeQuantizer(one, earlier) for one in found]


def _golden_inputs(
    inputs: Inputs, earlier: Earlier | None, outputs: Float32
) -> Float32:
    frames = inputs.validation.frames
    kept = None if earlier is None else earlier.golden_inputs
    if kept is not None and kept.shape[1:] == tuple(inputs.model.input.shape[1:]):
        return kept
    return vectors.pick_inputs(frames, outputs)


def _searched(
    request: BuildRequest,
    inputs: Inputs,
    quantizer: Quantizer,
    yardstick: Yardstick,
    progress: Progress,
    start: float,
) -> Outcome:
    position = [one.runtime for one in inputs.models].index(quantizer.model.runtime)
    share = (position + 1) / len(inputs.models)
    limits = Limits(start + request.budget_seconds * share, time.monotonic, REVERT_COST)
    progress(f"calibrating for {quantizer.model.runtime}")
    quantizer.calibrate(inputs.calibration.frames)
    judge = MeasuringJudge(
        yardstick,
        pick_probe(inputs.validation.frames),
        max_drop=request.max_drop,
        objective=request.objective,
    )
    return run_search(quantizer, judge, limits, progress)


def _measured(
    request: BuildRequest,
    inputs: Inputs,
    outcomes: Sequence[Outcome],
    yardstick: Yardstick,
    probe: Float32,
    progress: Progress,
) -> _Measured:
    trials = [one for outcome in outcomes for one in outcome.trials]
    skipped = {
        name: why for outcome in outcomes for name, why in outcome.skipped.items()
    }
    found = _Measured(trials, skipped)
    base, *others = trials
    found.quality[base.candidate.id] = yardstick.measure(base.candidate)
    for position, one in enumerate(others, start=1):
        progress(f"measuring quality: {position} of {len(others)}")
        try:
            found.quality[one.candidate.id] = yardstick.measure(one.candidate)
        except ConvertError as error:
            found.drop(one.candidate.id, error.message)
    candidates = [one.candidate for one in found.trials]
    found.latency.update(_latencies(candidates, probe, progress))
    if request.objective == "ram":
        for candidate in candidates:
            progress(f"measuring memory: {candidate.id}")
            used = measure_ram(candidate, inputs.model.input.shape)
            found.ram[candidate.id] = used
    return found


def _latencies(
    candidates: Sequence[Candidate], probe: Float32, progress: Progress
) -> dict[str, Latency]:
    """Time one candidate of each arithmetic: what differs in values only takes alike.

    Timed apart, noise of the host would choose between them, not quality.
    """
    timed: dict[Recipe, Candidate] = {}
    for one in candidates:
        timed.setdefault(one.recipe.arithmetic, one)
    progress(f"measuring latency of {len(timed)} kinds of candidates in turns")
    times = measure_latency(list(timed.values()), probe)
    return {one.id: times[timed[one.recipe.arithmetic].id] for one in candidates}


def _figures(
    request: BuildRequest, inputs: Inputs, measured: _Measured
) -> dict[str, Figures]:
    found = {}
    for trial in measured.trials:
        one = trial.candidate
        quality = measured.quality[one.id]
        compared = quality.comparison
        figures = Figures(
            drop=compared.drop,
            upper=compared.upper,
            sqnr_db=quality.sqnr_db,
            latency_us=measured.latency[one.id].median_us,
            size_bytes=len(one.content),
            samples=compared.samples,
            needed=inputs.metric.samples_needed(compared, request.max_drop),
            ram_bytes=measured.ram.get(one.id),
        )
        if trial.stage == "float":
            figures = replace(figures, drop=0.0, upper=0.0)
        found[one.id] = figures
    return found
