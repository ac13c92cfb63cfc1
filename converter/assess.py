# SPDX-License-Identifier: Apache-2.0
"""The candidates of a build: searched, measured, and one chosen a device.

Owns the order of these steps and which failures drop a candidate instead of ending the
build: only float must succeed. A chosen candidate must reproduce its golden vectors on
every kernel set of this host; one that does not is dropped, and the choice made again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from converter import vectors
from converter.candidate import Candidate, Quantizer
from converter.choose import Choice, Figures, choose
from converter.errors import ConvertBudgetError, ConvertError, ConvertGoldenError
from converter.inputs import Inputs, Progress
from converter.judging import MeasuringJudge, pick_probe
from converter.litert.quantizer import LitertQuantizer
from converter.measure import (
    Latency,
    Quality,
    Yardstick,
    measure_latency,
    measure_ram,
)
from converter.outputs import PostSteps
from converter.profiles import DEFAULT
from converter.request import BuildRequest
from converter.search import Limits, Outcome, Trial, run_search
from converter.tensors import Float32
from edge_contract.golden import GoldenVectors

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
        choices: Device profile to its choice.
        packed: What goes into the bundle: float, then what was chosen.
        golden: Golden vectors of these.
        checks: Candidate id to agreement of this host's kernels.
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
    choices: Mapping[str, Choice]
    packed: tuple[Candidate, ...]
    golden: GoldenVectors
    checks: Mapping[str, tuple[vectors.KernelCheck, ...]]
    search_seconds: float
    is_cut_short: bool

    def choice_of(self, profile: str) -> str:
        """Return the id of the candidate chosen for a device profile."""
        chosen = self.choices[profile].chosen
        return self.packed[0].id if chosen is None else chosen


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
        ConvertGoldenError: The float variant's kernels disagree.
        ConvertBudgetError: Only float is within the budget, and that was not allowed.
    """
    start = time.monotonic()
    quantizer: Quantizer = LitertQuantizer(inputs.model)
    yardstick = Yardstick(
        quantizer.make(quantizer.recipes()[0]),
        inputs.validation.frames,
        post=inputs.meaning.post,
        metric=inputs.metric,
        truth=inputs.truth,
        clusters=inputs.clusters,
    )
    outcome = _searched(request, inputs, quantizer, yardstick, progress)
    seconds = time.monotonic() - start
    probe = pick_probe(inputs.validation.frames)
    measured = _measured(request, inputs, outcome, yardstick, probe, progress)
    progress("choosing, and checking golden vectors on every kernel set")
    goldens = _Goldens(
        vectors.pick_inputs(inputs.validation.frames, yardstick.outputs),
        compares_winners=bool(inputs.meaning.classes),
    )
    choices, packed = _choose_checked(request, inputs, measured, goldens, yardstick)
    return Assessment(
        tuple(measured.trials),
        measured.skipped,
        inputs.meaning.post,
        yardstick.outputs,
        measured.quality,
        measured.latency,
        measured.ram,
        choices,
        packed,
        goldens.of(packed),
        {one.id: goldens.checked[one.id].checks for one in packed},
        seconds,
        outcome.is_cut_short,
    )


def _searched(
    request: BuildRequest,
    inputs: Inputs,
    quantizer: Quantizer,
    yardstick: Yardstick,
    progress: Progress,
) -> Outcome:
    limits = Limits(
        time.monotonic() + request.budget_seconds, time.monotonic, REVERT_COST
    )
    progress("calibrating")
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
    outcome: Outcome,
    yardstick: Yardstick,
    probe: Float32,
    progress: Progress,
) -> _Measured:
    found = _Measured(list(outcome.trials), dict(outcome.skipped))
    base, *others = outcome.trials
    found.quality[base.candidate.id] = yardstick.measure(base.candidate)
    for position, one in enumerate(others, start=1):
        progress(f"measuring quality: {position} of {len(others)}")
        try:
            found.quality[one.candidate.id] = yardstick.measure(one.candidate)
        except ConvertError as error:
            found.drop(one.candidate.id, error.message)
    progress(f"measuring latency of {len(found.trials)} candidates in turns")
    candidates = [one.candidate for one in found.trials]
    found.latency.update(measure_latency(candidates, probe))
    if request.objective == "ram":
        for candidate in candidates:
            progress(f"measuring memory: {candidate.id}")
            used = measure_ram(candidate, inputs.model.input.shape)
            found.ram[candidate.id] = used
    return found


class _Goldens:
    """Golden vectors of candidates, made once each."""

    def __init__(self, inputs: Float32, *, compares_winners: bool) -> None:
        self.inputs = inputs
        self._compares_winners = compares_winners
        self.checked: dict[str, vectors.Checked] = {}

    def refusal(self, candidate: Candidate) -> str:
        """Return why a candidate's kernels disagree; empty where they agree."""
        if candidate.id not in self.checked:
            self.checked[candidate.id] = vectors.check(
                candidate, self.inputs, compares_winners=self._compares_winners
            )
        return self.checked[candidate.id].refusal

    def of(self, candidates: Sequence[Candidate]) -> GoldenVectors:
        """Return the golden vectors of candidates that were checked."""
        found = {one.id: self.checked[one.id] for one in candidates}
        return GoldenVectors(
            self.inputs,
            {name: one.golden for name, one in found.items()},
            {name: one.tolerance for name, one in found.items()},
        )


def _choose_checked(
    request: BuildRequest,
    inputs: Inputs,
    measured: _Measured,
    goldens: _Goldens,
    yardstick: Yardstick,
) -> tuple[dict[str, Choice], tuple[Candidate, ...]]:
    base = yardstick.base
    if refusal := goldens.refusal(base):
        raise ConvertGoldenError(
            refusal, next_step="check the model for numbers near overflow"
        )
    while True:
        figures = _figures(request, inputs, measured)
        choices = {
            profile: choose(
                figures,
                objective=request.objective,
                max_drop=request.max_drop,
                float_ids=[base.id],
            )
            for profile in (DEFAULT, *request.profiles)
        }
        wanted = {one.chosen for one in choices.values()} - {base.id, None}
        chosen = [
            one.candidate for one in measured.trials if one.candidate.id in wanted
        ]
        wrong = [one for one in chosen if goldens.refusal(one)]
        if not wrong:
            break
        for one in wrong:
            measured.drop(one.id, goldens.refusal(one))
    if request.require_quantized:
        _check_quantized(choices, base.id)
    return choices, (base, *chosen)


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


def _check_quantized(choices: Mapping[str, Choice], float_id: str) -> None:
    for profile, choice in choices.items():
        if choice.chosen not in {float_id, None}:
            continue
        if choice.nearest is None:
            msg = f"{profile}: no quantized variant could be made"
            raise ConvertBudgetError(msg, next_step="see `edge-convert explain`")
        reason = choice.reasons[choice.nearest]
        msg = f"{profile}: no quantized variant is within the budget;"
        msg += f" the nearest is {choice.nearest}: {reason}"
        raise ConvertBudgetError(
            msg, next_step="give more validation data or a larger --max-drop"
        )
