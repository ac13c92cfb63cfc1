# SPDX-License-Identifier: Apache-2.0
import numpy as np

from converter.candidate import Candidate
from converter.choose import Paired
from converter.data.frames import ArrayFrames
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.measure import (
    ROUNDS,
    Quality,
    measure_latency,
    measure_quality,
    measure_ram,
    paired,
)
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

MODEL = normalise(model_bytes(), source="m")
FRAMES = np.random.default_rng(1).normal(size=(80, LENGTH, FEATURES)).astype("f4")


def both() -> list[Candidate]:
    quantizer = LitertQuantizer(MODEL)
    quantizer.calibrate(ArrayFrames(FRAMES))
    return [quantizer.make(one) for one in quantizer.recipes()]


def quality_of(correct: list[bool]) -> Quality:
    outputs = np.zeros((len(correct), 3), dtype=np.float32)
    return Quality(outputs, np.array(correct), 0.0, 0.0)


def test_pairs_are_counted_frame_by_frame() -> None:
    base = quality_of([True, True, False, False, True])
    other = quality_of([True, False, True, False, False])
    assert paired(base, other) == Paired(worse=2, better=1, samples=5)


def test_without_labels_float_agrees_with_itself() -> None:
    found = measure_quality(both(), FRAMES, None, ())
    assert found["litert-float32"].accuracy == 1.0
    assert found["litert-float32"].sqnr_db == 999.0
    assert 0.9 < found["litert-static-minmax-channel"].accuracy <= 1.0
    assert 30 < found["litert-static-minmax-channel"].sqnr_db < 60


def test_labels_decide_where_there_are_any() -> None:
    labels = (FRAMES.mean(axis=1) * 4 + [0, 0.25, 0]).argmax(axis=1)
    assert measure_quality(both(), FRAMES, labels, ())["litert-float32"].accuracy == 1.0
    wrong = (labels + 1) % 3
    assert measure_quality(both(), FRAMES, wrong, ())["litert-float32"].accuracy == 0.0


def test_latency_is_taken_over_all_rounds_of_every_candidate() -> None:
    found = measure_latency(both(), FRAMES)
    assert set(found) == {"litert-float32", "litert-static-minmax-channel"}
    for one in found.values():
        assert 0 < one.median_us <= one.p99_us
        assert one.calls % ROUNDS == 0


def test_memory_is_measured_in_a_fresh_process() -> None:
    grown = measure_ram(both()[0], MODEL.input.shape)
    assert 0 < grown < 64 * 2**20
