# SPDX-License-Identifier: Apache-2.0
"""A shadow: what it counts, what it costs the hot path, and its share."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import BackendError, ModelError
from edge_agent.flow import Float32, Int64, Result
from edge_agent.runtime.model import Model, load
from edge_agent.runtime.shadow import MAX_QUEUE, Shadow, ShadowTally, disagrees
from edge_contract.operations import count_latencies
from tests.support.bundles import ModelRecipe, make_bundle

FRAME = np.ones((8, 2), dtype=np.float32)
PATIENCE = 10.0


def make_model(folder: Path) -> Model:
    path = folder / "shadow.bundle"
    make_bundle(path, ModelRecipe())
    return load(path, allow_unsigned=True)


def result(output: Float32 | None) -> Result:
    return Result("id", 0, "ab" * 32, output, None if output is not None else "bad")


def await_tally(shadow: Shadow, accept: Callable[[ShadowTally], bool]) -> ShadowTally:
    end = time.monotonic() + PATIENCE
    while not accept(shadow.tally):
        assert time.monotonic() < end, shadow.tally
        time.sleep(0.005)
    return shadow.tally


def start(load: Callable[[], Model], share: float = 1.0) -> Shadow:
    shadow = Shadow(load, share)
    shadow.start()
    return shadow


def test_who_reads_while_a_frame_is_counted_gets_whole_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path)
    other = np.roll(model.infer(FRAME), 1)
    read: list[tuple[int, int, int]] = []

    def count(latencies_ns: Int64) -> Int64:
        tally = shadow.tally
        read.append((tally.inferences, tally.disagreements, tally.not_finite))
        return count_latencies(latencies_ns)

    monkeypatch.setattr("edge_agent.runtime.shadow.count_latencies", count)
    shadow = start(lambda: model)
    await_tally(shadow, lambda tally: tally.digest == model.digest)
    for _ in range(3):
        shadow.saw(FRAME, result(other))
    await_tally(shadow, lambda tally: tally.inferences == 3)
    shadow.stop()

    assert read == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]


def test_frames_are_compared_and_disagreements_counted(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    own = model.infer(FRAME)
    other = np.roll(own, 1)
    shadow = start(lambda: model)
    await_tally(shadow, lambda tally: tally.digest == model.digest)
    for output in (own, other, own, other, other):
        shadow.saw(FRAME, result(output))
    shadow.saw(FRAME, result(None))
    tally = await_tally(shadow, lambda tally: tally.inferences == 5)
    shadow.stop()

    assert (tally.disagreements, tally.failed, tally.passed_over) == (3, 0, 0)
    assert tally.latency_us > 0


def test_a_full_queue_passes_frames_over_and_the_caller_does_not_wait(
    tmp_path: Path,
) -> None:
    model = make_model(tmp_path)
    output = model.infer(FRAME)
    shadow = start(lambda: model, share=0.001)
    await_tally(shadow, lambda tally: tally.digest != "")
    for _ in range(100):
        shadow.saw(FRAME, result(output))
    tally = shadow.tally
    shadow.stop()

    assert tally.passed_over >= 100 - MAX_QUEUE - 2


def test_the_frame_is_copied(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    output, frame = model.infer(FRAME), FRAME.copy()
    gate = threading.Event()
    seen: list[Float32] = []

    class Gated:
        input_shape, output_shape = (1, 8, 2), (1, 3)
        kernels = "test"

        def infer(self, data: Float32) -> Float32:
            gate.wait(PATIENCE)
            seen.append(data.copy())
            return output.reshape(1, -1)

    gated = Model(model.digest, model.manifest, model.profile, model.variant, Gated())
    shadow = start(lambda: gated)
    await_tally(shadow, lambda tally: tally.digest != "")
    shadow.saw(frame, result(output))
    frame[:] = 7
    gate.set()
    await_tally(shadow, lambda tally: tally.inferences == 1)
    shadow.stop()

    assert np.array_equal(seen[0], FRAME[np.newaxis])


def test_its_share_of_the_processor_is_kept(tmp_path: Path) -> None:
    model, busy = make_model(tmp_path), 0.01
    output = model.infer(FRAME)
    calls: list[float] = []

    class Slow:
        input_shape, output_shape = (1, 8, 2), (1, 3)
        kernels = "test"

        def infer(self, data: Float32) -> Float32:
            del data
            calls.append(time.monotonic())
            time.sleep(busy)
            return output.reshape(1, -1)

    slow = Model(model.digest, model.manifest, model.profile, model.variant, Slow())
    shadow = start(lambda: slow, share=0.1)
    await_tally(shadow, lambda tally: tally.digest != "")
    for _ in range(4):
        shadow.saw(FRAME, result(output))
    await_tally(shadow, lambda tally: tally.inferences == 4)
    shadow.stop()

    # A tenth: each start is at least ten times the work after the one before.
    assert min(np.diff(calls)) >= 10 * busy


def test_a_shadow_that_rests_takes_nothing(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    shadow = start(lambda: model)
    await_tally(shadow, lambda tally: tally.digest != "")
    shadow.is_resting = True
    shadow.saw(FRAME, result(model.infer(FRAME)))
    tally = shadow.tally
    shadow.stop()

    assert (tally.inferences, tally.passed_over, tally.is_resting) == (0, 1, True)


def test_a_shadow_that_cannot_be_loaded_or_fails_harms_nobody(tmp_path: Path) -> None:
    def refuse() -> Model:
        raise ModelError("not for this device")

    shadow = start(refuse)
    shadow.saw(FRAME, result(np.zeros(3, np.float32)))
    shadow.stop()
    assert shadow.tally.inferences == 0

    model = make_model(tmp_path)

    class Broken:
        input_shape, output_shape = (1, 8, 2), (1, 3)
        kernels = "test"

        def infer(self, data: Float32) -> Float32:
            del data
            raise BackendError("broken")

    broken = Model(model.digest, model.manifest, model.profile, model.variant, Broken())
    shadow = start(lambda: broken)
    await_tally(shadow, lambda tally: tally.digest != "")
    shadow.saw(FRAME, result(np.zeros(3, np.float32)))
    tally = await_tally(shadow, lambda tally: tally.failed == 1)
    shadow.stop()
    assert tally.inferences == 0


def test_what_is_a_disagreement() -> None:
    one = np.array([100.0, 0.0], np.float32)

    assert not disagrees(one, one * 1.04, is_class=False)
    assert disagrees(one, one * 1.06, is_class=False)
    assert not disagrees(one, one * 1.06, is_class=True)
    assert disagrees(one, one[:1], is_class=True)
    assert disagrees(one, one * np.float32("nan"), is_class=True)
    zero = np.zeros(2, np.float32)
    assert not disagrees(zero, zero, is_class=False)
    assert disagrees(zero, one, is_class=False)
