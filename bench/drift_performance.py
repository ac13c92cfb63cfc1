# SPDX-License-Identifier: Apache-2.0
"""Claim: sixteen confidence counts estimate accuracy as well as NannyML's CBPE.

Owns the comparison on the census data in NannyML's wheel (employment in Massachusetts,
reference 2015, analysis 2016 to 2018, in chunks of 5,000): mean absolute error of the
estimated accuracy against the labels, ours from the counts that a window carries,
NannyML's from every single probability, and that of assuming that nothing changes.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.contract_window import make_profile
from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.side_environment import run_aside
from converter.reference import build_outputs
from edge_contract.binning import Float32, Float64, Int64
from edge_contract.window import StatisticsBuilder
from fleet.drift.accuracy import estimate_accuracy

CHUNK_ROWS = 5000
_ASKED = 1.1


@dataclass(frozen=True, eq=False)
class Period:
    """Outputs of a binary classifier, with the truth.

    Attributes:
        probabilities: float32 [n, 2].
        truth: int64 [n].
    """

    probabilities: Float32
    truth: Int64

    @property
    def right(self) -> Int64:
        """Which outputs are right, int64 [n]."""
        winners = self.probabilities.argmax(axis=1)
        right: Int64 = (winners == self.truth).astype(np.int64)
        return right

    @classmethod
    def read(cls, data: dict[str, Float32], name: str) -> "Period":
        """Read a period from the arrays that the worker wrote."""
        positive = data[f"{name}_probability"]
        both = np.stack((1 - positive, positive), axis=1)
        return cls(both, data[f"{name}_truth"].astype(np.int64))


def run() -> Document:
    """Estimate all chunks, and compare."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "census.npz"
        theirs = run_aside("nannyml", "nannyml_census", path, str(CHUNK_ROWS))
        if theirs is None:
            row = Row("NannyML could not be installed: nothing was compared", 0.0, "-")
            return make_document("drift_performance", [row])
        data = dict(np.load(path))
    reference, analysis = (Period.read(data, one) for one in ("reference", "analysis"))
    chunks = [
        slice(first, last + 1)
        for first, last in zip(theirs["first"], theirs["last"], strict=True)
    ]
    real = np.array([analysis.right[one].mean() for one in chunks])
    ours = estimate_chunks(reference, analysis, chunks)
    constant = float(reference.right.mean())
    error = float(np.abs(ours - real).mean())
    other = float(np.abs(np.array(theirs["estimated"]) - real).mean())
    return make_document(
        "drift_performance",
        [
            Row(
                "error of estimated accuracy, NannyML's CBPE beside it",
                error,
                "share",
                baseline=other,
                ratio=error / other,
                n=len(chunks),
                spread=_half_range(np.abs(ours - real)),
                asked=f"<= {_ASKED:g} x",
                holds=error <= _ASKED * other,
            ),
            Row(
                "error of assuming the reference's accuracy",
                float(np.abs(constant - real).mean()),
                "share",
                n=len(chunks),
            ),
            Row("real accuracy, lowest chunk", float(real.min()), "share"),
            Row("real accuracy, highest chunk", float(real.max()), "share"),
        ],
    )


def estimate_chunks(
    reference: Period, analysis: Period, chunks: list[slice]
) -> Float64:
    """Return the estimated accuracy of each chunk, float64 [chunks].

    The reference is what edge-convert puts into a bundle, a chunk what a device counts.

    Raises:
        ValueError: A chunk is too small to be estimated.
    """
    labels = ("negative", "positive")
    outputs = build_outputs(labels, reference.probabilities, reference.truth)
    profile = replace(make_profile(), outputs=outputs)
    estimates = []
    for one in chunks:
        builder = StatisticsBuilder(profile)
        builder.add_outputs(analysis.probabilities[one])
        counts = builder.statistics.counts[profile.layout.confidence]
        found = estimate_accuracy(
            counts, outputs.confidence_counts, outputs.confidence_correct
        )
        if found is None:
            raise ValueError(f"chunk {one}: expected 200 rows; make chunks longer")
        estimates.append(found.cbpe)
    return np.array(estimates)


def _half_range(values: Float64) -> float:
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low) / 2


if __name__ == "__main__":
    write_document(run())
