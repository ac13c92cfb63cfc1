# SPDX-License-Identifier: Apache-2.0
"""The candidates of a build: made, measured, checked, and one of them chosen.

Owns the order of these steps and which failures drop a candidate instead of ending the
build: only float must succeed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from converter import outputs, vectors
from converter.candidate import Candidate
from converter.choose import Choice, Figures, Paired, choose
from converter.data.frames import ArrayFrames
from converter.errors import ConvertGoldenError, ConvertModelError, ConvertQuantizeError
from converter.inputs import Inputs, Progress
from converter.litert.quantizer import LitertQuantizer
from converter.measure import (
    Latency,
    Quality,
    measure_latency,
    measure_quality,
    measure_ram,
    paired,
)
from converter.request import BuildRequest
from converter.runtimes import open_engine
from edge_contract.golden import GoldenVectors


@dataclass(frozen=True, eq=False)
class Assessment:
    """The candidates and what they do.

    Attributes:
        candidates: Float first.
        skipped: Candidate id to the reason why it is not among them.
        post: Steps from raw outputs to probabilities.
        quality: Candidate id to outputs on the validation frames.
        latency: Candidate id to time on this host.
        ram: Candidate id to memory on this host, where it was asked for.
        golden: Golden vectors of all candidates.
        checks: Candidate id to agreement of this host's kernels.
    """

    candidates: tuple[Candidate, ...]
    skipped: Mapping[str, str]
    post: outputs.PostSteps
    quality: Mapping[str, Quality]
    latency: Mapping[str, Latency]
    ram: Mapping[str, int]
    golden: GoldenVectors
    checks: Mapping[str, tuple[vectors.KernelCheck, ...]]

    def pair_with_float(self, candidate: Candidate) -> Paired:
        """Return how ``candidate`` differs from float on the validation frames."""
        base = self.quality[self.candidates[0].id]
        return paired(base, self.quality[candidate.id])


def assess(request: BuildRequest, inputs: Inputs, progress: Progress) -> Assessment:
    """Make and measure the candidates.

    Raises:
        ConvertGoldenError: The float variant's kernels disagree.
    """
    quantizer, skipped = LitertQuantizer(inputs.model), {}
    base, *others = quantizer.recipes()
    candidates = [quantizer.make(base)]
    progress("calibrating and quantizing")
    quantizer.calibrate(ArrayFrames(inputs.calibration.frames))
    for one in others:
        try:
            candidates.append(quantizer.make(one))
        except (ConvertQuantizeError, ConvertModelError) as error:
            skipped[one.id] = error.message
    progress("measuring accuracy")
    frames = inputs.validation.frames
    labels = None if inputs.metric == "agreement" else inputs.validation.labels
    raw = open_engine(inputs.model.runtime, inputs.model.content).run(frames)
    post = outputs.post_steps(raw, inputs.model.output)
    quality = measure_quality(candidates, frames, labels, post)
    progress("checking golden vectors on every kernel set")
    picked = vectors.pick_inputs(frames, quality[candidates[0].id].probabilities)
    golden, checks, refused = vectors.make_vectors(candidates, picked)
    if candidates[0].id in refused:
        raise ConvertGoldenError(
            refused[candidates[0].id],
            next_step="check the model for numbers near overflow",
        )
    candidates = [one for one in candidates if one.id not in refused]
    progress("measuring latency")
    latency = measure_latency(candidates, frames)
    ram = {}
    if request.objective == "ram":
        ram = {one.id: measure_ram(one, inputs.model.input.shape) for one in candidates}
    return Assessment(
        tuple(candidates),
        skipped | refused,
        post,
        quality,
        latency,
        ram,
        golden,
        checks,
    )


def choose_variant(request: BuildRequest, measured: Assessment) -> Choice:
    """Choose the default variant by ``choose``'s rules."""
    base = measured.candidates[0]
    figures = {
        one.id: Figures(
            paired=None if one is base else measured.pair_with_float(one),
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
