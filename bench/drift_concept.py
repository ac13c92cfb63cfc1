# SPDX-License-Identifier: Apache-2.0
"""Claim: labels show a change of concept soon, and without one they stay quiet.

Owns the experiment: a model that stays as it was trained meets streams whose concept
changes once, at once or over 500 labels. Every detector sees the same errors; ours gets
them as a server does, summed over windows of 50 labels with their confidence. A dummy
that alarms every 500 labels stands beside them: what it finds is worth nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from river.drift import ADWIN, PageHinkley
from river.drift.binary import DDM, EDDM, HDDMA, HDDMW

from bench.harness.concept_streams import BEFORE, STREAMS, WIDTHS, Errors, run_stream
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from edge_contract.binning import equal_mass_edges
from edge_contract.evidence import Feedback
from fleet.drift.error_stream import ErrorStream, promised_errors
from fleet.drift.performance import CERTAIN

SEEDS = tuple(range(500, 510))
WINDOW_LABELS = 50
_DUMMY_LABELS: Final = 500
_BINS: Final = 16


class Detector(Protocol):
    """Takes one label after the other."""

    def update(self, *, wrong: bool, confidence: float) -> bool:
        """Take in a label; return whether this is an alarm."""
        ...


@dataclass
class Theirs:
    """A detector of river: it starts afresh by itself after an alarm."""

    detector: Any

    def update(self, *, wrong: bool, confidence: float) -> bool:
        """Take in a label."""
        del confidence
        self.detector.update(wrong)
        return bool(self.detector.drift_detected)


@dataclass
class Dummy:
    """Alarms every so many labels, whatever they say."""

    labels: int = 0

    def update(self, *, wrong: bool, confidence: float) -> bool:
        """Take in a label."""
        del wrong, confidence
        self.labels += 1
        return self.labels % _DUMMY_LABELS == _DUMMY_LABELS // 2


@dataclass
class Ours:
    """The server's rule over windows; after an alarm it starts afresh."""

    errors: Errors
    stream: ErrorStream = field(init=False)

    def __post_init__(self) -> None:
        """Read the promise from the labels before the stream."""
        confidence = self.errors.reference_confidence.astype(np.float32)
        edges = equal_mass_edges(confidence)
        self._edges = edges
        self._labels = np.zeros(_BINS, np.int64)
        self._wrong = np.zeros(_BINS, np.int64)
        bins = edges.searchsorted(confidence, "right")
        counts = np.bincount(bins, minlength=_BINS)
        right = np.bincount(bins[~self.errors.reference_wrong], minlength=_BINS)
        self._promises = promised_errors(counts, right)
        self.stream = ErrorStream(self._promises)

    def update(self, *, wrong: bool, confidence: float) -> bool:
        """Take in a label; windows close every ``WINDOW_LABELS``."""
        place = int(self._edges.searchsorted(np.float32(confidence), "right"))
        self._labels[place] += 1
        self._wrong[place] += wrong
        if self._labels.sum() < WINDOW_LABELS:
            return False
        self.stream.add(Feedback(self._labels.copy(), self._wrong.copy()))
        self._labels[:], self._wrong[:] = 0, 0
        if self.stream.evidence.e_value < CERTAIN:
            return False
        self.stream = ErrorStream(self._promises)
        return True


@dataclass(frozen=True)
class Found:
    """What one detector did on one stream.

    Attributes:
        false: Alarms before the change.
        delay: Labels from the change to the first alarm after it; None: never.
    """

    false: int
    delay: int | None


DETECTORS: Final[dict[str, Callable[[Errors], Detector]]] = {
    "ours": Ours,
    "ADWIN": lambda _: Theirs(ADWIN()),
    "HDDM_W": lambda _: Theirs(HDDMW()),
    "HDDM_A": lambda _: Theirs(HDDMA()),
    "DDM": lambda _: Theirs(DDM()),
    "EDDM": lambda _: Theirs(EDDM()),
    "Page-Hinkley": lambda _: Theirs(PageHinkley()),
    "dummy": lambda _: Dummy(),
}


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Run every detector on every stream of each seed."""
    rows: list[Row] = []
    false: dict[str, list[int]] = {name: [] for name in DETECTORS}
    for stream in STREAMS:
        for kind, width in WIDTHS.items():
            runs = [run_stream(stream, width, seed) for seed in seeds]
            found = {
                name: [watch(make(errors), errors) for errors in runs]
                for name, make in DETECTORS.items()
            }
            for name, results in found.items():
                false[name] += [one.false for one in results]
                rows.append(_delay_row(f"{stream} {kind}, {name}", results))
    rows += [_false_row(name, counts) for name, counts in false.items()]
    return make_document("drift_concept", rows)


def watch(detector: Detector, errors: Errors) -> Found:
    """Show a detector all labels; count what it says before the change and after."""
    false, delay = 0, None
    pairs = zip(errors.wrong.tolist(), errors.confidence.tolist(), strict=True)
    for number, (wrong, confidence) in enumerate(pairs):
        if not detector.update(wrong=wrong, confidence=confidence):
            continue
        if number < BEFORE:
            false += 1
        else:
            delay = number + 1 - BEFORE
            break
    return Found(false, delay)


def _delay_row(case: str, results: Sequence[Found]) -> Row:
    delays = [float(one.delay) for one in results if one.delay is not None]
    missed = len(results) - len(delays)
    text = f"delay, {case}" + (
        f" ({missed} of {len(results)} missed)" if missed else ""
    )
    if not delays:
        return Row(f"{text}: nothing found", 0.0, "labels", n=0)
    median, n, spread = summarise(delays)
    return Row(text, median, "labels", n=n, spread=spread)


def _false_row(name: str, counts: Sequence[int]) -> Row:
    """Say how often a detector errs; ours promises hardly ever."""
    rate = sum(counts) / (len(counts) * BEFORE) * 10_000
    is_ours = name == "ours"
    return Row(
        f"false alarms in 10,000 labels, {name}",
        rate,
        "alarms",
        n=len(counts),
        asked="<= 0.1" if is_ours else None,
        holds=rate <= 0.1 if is_ours else None,
    )


if __name__ == "__main__":
    write_document(run())
