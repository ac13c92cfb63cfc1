# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from converter.candidate import Candidate
from converter.data.frames import ArrayFrames
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.measure import (
    ROUNDS,
    Yardstick,
    measure_latency,
    measure_ram,
    sqnr_of,
)
from converter.metrics import open_metric
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

MODEL = normalise(model_bytes(), source="m")
FRAMES = np.random.default_rng(1).normal(size=(80, LENGTH, FEATURES)).astype("f4")


def both() -> list[Candidate]:
    quantizer = LitertQuantizer(MODEL)
    quantizer.calibrate(ArrayFrames(FRAMES))
    return [quantizer.make(one) for one in quantizer.recipes()[:2]]


def yardstick(labels: np.ndarray | None) -> Yardstick:
    metric = open_metric("agreement" if labels is None else "top1", "classification")
    return Yardstick(
        both()[0],
        ArrayFrames(FRAMES),
        post=({"step": "softmax"},),
        metric=metric,
        truth=labels,
        clusters=None,
    )


def test_without_labels_float_agrees_with_itself() -> None:
    base, static = both()
    measured = yardstick(None)
    assert len(measured) == len(FRAMES)
    assert measured.outputs.sum(axis=1) == pytest.approx(1)
    found = measured.measure(base)
    assert (found.comparison.other, found.sqnr_db) == (1.0, 999.0)
    found = measured.measure(static)
    assert 0.9 < found.comparison.other <= 1.0
    assert 30 < found.sqnr_db < 60
    assert measured.measure(static) is found


def test_labels_decide_where_there_are_any() -> None:
    base = both()[0]
    labels = (FRAMES.mean(axis=1) * 4 + [0, 0.25, 0]).argmax(axis=1)
    assert yardstick(labels).measure(base).comparison.other == 1.0
    assert yardstick((labels + 1) % 3).measure(base).comparison.other == 0.0


def test_outputs_that_are_not_finite_are_no_signal() -> None:
    assert sqnr_of(np.array([[np.nan]]), np.array([[1.0]])) == -999.0
    assert sqnr_of(np.array([[0.9]]), np.array([[1.0]])) == pytest.approx(20, abs=1e-6)


def test_latency_is_taken_over_all_rounds_of_every_candidate() -> None:
    found = measure_latency(both(), FRAMES)
    assert set(found) == {"litert-float32", "litert-static-p99.99-channel"}
    for one in found.values():
        assert 0 < one.median_us <= one.p99_us
        assert one.calls % ROUNDS == 0


def test_memory_is_measured_in_a_fresh_process() -> None:
    grown = measure_ram(both()[0], MODEL.input.shape)
    assert 0 < grown < 64 * 2**20
