# SPDX-License-Identifier: Apache-2.0
"""The session as a service calls it: lone frames, many callers, swaps among them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent import load
from edge_agent.errors import ModelError
from edge_agent.flow import Chunk, Float32, Grid, Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import FramePipeline
from edge_agent.runtime.session import LIVE_US, Session, is_finite
from tests.support.agent_doubles import ListObserver, ManualClock
from tests.support.bundles import ModelRecipe, make_bundle

SERIES = ModelRecipe()
VECTOR = ModelRecipe(observe="vector", features=4)
WALL_US = 1_700_000_000_000_000


class ListWatcher:
    """Keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[Float32, Result]] = []

    def saw(self, data: Float32, result: Result) -> None:
        """Keep it."""
        self.seen.append((data, result))


def make_model(folder: Path, recipe: ModelRecipe) -> Model:
    path = folder / f"{recipe.name}-{recipe.seed}.bundle"
    make_bundle(path, recipe)
    return load(path, allow_unsigned=True)


def frame_of(model: Model, value: float = 0.5) -> Float32:
    return np.full(model.input_shape, value, dtype=np.float32)


def test_a_lone_row_is_observed_at_the_wall_clock(tmp_path: Path) -> None:
    observer, watcher, model = (
        ListObserver(),
        ListWatcher(),
        make_model(tmp_path, VECTOR),
    )
    session = Session(observer, ManualClock(WALL_US), (watcher,))
    session.offer(model)

    result = session.infer(frame_of(model), "request 7")

    assert (result.id, result.time_us, result.error) == ("request 7", WALL_US, None)
    assert result.digest == model.digest
    assert result.output is not None
    np.testing.assert_array_equal(result.output, model.infer(frame_of(model)))
    (one,) = observer.observations
    assert (one.stream, one.is_start, one.times_us) == ("service", False, WALL_US)
    assert one.rows.shape == (1, 4)
    assert one.output is result.output
    assert one.latency_ns > 0
    assert [found for _, found in watcher.seen] == [result]
    assert session.raw_bytes == 16


def test_every_row_of_a_lone_series_is_new(tmp_path: Path) -> None:
    observer, model = ListObserver(), make_model(tmp_path, SERIES)
    session = Session(observer, ManualClock(WALL_US))
    session.offer(model)

    session.infer(frame_of(model), "a")
    session.infer(frame_of(model), "b")

    assert [one.rows.shape for one in observer.observations] == [(8, 2), (8, 2)]
    assert [one.is_start for one in observer.observations] == [True, True]


def test_a_lone_frame_beside_a_source_is_as_old_as_its_last_row(tmp_path: Path) -> None:
    observer, model, clock = ListObserver(), make_model(tmp_path, SERIES), ManualClock()
    session = Session(observer, clock)
    session.offer(model)
    times = np.arange(8, dtype=np.int64)
    chunk = Chunk("a", np.zeros((8, 2), dtype=np.float32), times, is_start=True)
    (task,) = FramePipeline(model.grid).push(chunk)
    assert session.process(task, model.grid) is not None

    clock.advance(LIVE_US)
    assert session.infer(frame_of(model), "x").time_us == 7
    clock.advance(1)
    assert session.infer(frame_of(model), "x").time_us == 7 + LIVE_US + 1


@pytest.mark.parametrize(
    "frame", [np.zeros((3, 3), np.float32), np.array(["a", "b"]), np.zeros(0)]
)
def test_a_frame_that_does_not_fit_is_refused_and_counts_nowhere(
    tmp_path: Path, frame: Float32
) -> None:
    observer = ListObserver()
    session = Session(observer, ManualClock())
    session.offer(make_model(tmp_path, VECTOR))

    result = session.infer(frame, "x")

    assert result.output is None
    assert result.error is not None
    assert result.error.startswith("model toy: expected")
    assert (observer.observations, session.failed) == ([], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails_and_the_next_one_serves(
    tmp_path: Path, value: float
) -> None:
    observer = ListObserver()
    session = Session(observer, ManualClock())
    model = make_model(tmp_path, VECTOR)
    session.offer(model)
    bad = frame_of(model)
    bad[0, 2] = value

    failed, good = session.infer(bad, "x"), session.infer(frame_of(model), "y")

    assert (failed.output, failed.error) == (None, "the output is not finite")
    assert good.error is None
    assert (session.failed, session.faulty, session.finite) == (1, 0, 1)
    assert observer.observations[0].output is None


@pytest.mark.parametrize("width", [3, 100])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(width: int, bad: float) -> None:
    output = np.full(width, 3e38, dtype=np.float32)
    assert is_finite(output)
    output[1] = bad
    assert not is_finite(output)


def test_without_a_model_a_caller_is_told(tmp_path: Path) -> None:
    session = Session(ListObserver(), ManualClock())
    with pytest.raises(ModelError, match="expected a model to serve, found none"):
        session.infer(np.zeros((1, 4), np.float32), "x")
    assert [session.card, session.await_model(0.0)] == [None, False]

    model = make_model(tmp_path, VECTOR)
    assert session.offer(model)

    assert [session.card, session.await_model(0.0)] == [model.card, True]
    assert (model.card.input_shape, model.card.kernels) == ((1, 4), "XNNPACK")


def test_a_task_cut_for_another_model_is_not_run(tmp_path: Path) -> None:
    observer = ListObserver()
    session = Session(observer, ManualClock())
    model = make_model(tmp_path, SERIES)
    session.offer(make_model(tmp_path, replace(SERIES, length=4, name="short")))
    chunk = Chunk("a", np.zeros((8, 2), np.float32), np.arange(8), is_start=True)
    (task,) = FramePipeline(model.grid).push(chunk)

    assert session.process(task, Grid(8, 4, 2)) is None
    assert observer.observations == []


def test_callers_and_swaps_at_once_lose_nothing(tmp_path: Path) -> None:
    observer = ListObserver()
    models = [make_model(tmp_path, replace(VECTOR, seed=seed)) for seed in (1, 2)]
    expected = {one.digest: one.infer(frame_of(one)).tolist() for one in models}
    session = Session(observer, ManualClock())
    session.offer(models[0])
    results: list[Result] = []

    def call() -> None:
        frame = frame_of(models[0])
        results.extend(session.infer(frame, str(n)) for n in range(2000))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for one in threads:
        one.start()
    swaps = 0
    while any(one.is_alive() for one in threads):
        swaps += 1
        assert session.offer(models[swaps % 2], 5.0)
    for one in threads:
        one.join()

    assert len(results) == len(observer.observations) == session.finite == 8000
    assert {one.error for one in results} == {None}
    for result in results:
        assert result.output is not None
        assert result.output.tolist() == expected[result.digest]
    assert len(observer.bound) == swaps + 1


class StuckBackend:
    """An inference that does not end until it is told to."""

    kernels = "none"
    input_shape = (1, 4)
    output_shape = (1, 3)

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()

    def infer(self, data: Float32) -> Float32:
        """Wait."""
        del data
        self.started.set()
        self.go_on.wait(30)
        return np.zeros((1, 3), dtype=np.float32)


def test_an_offer_waits_for_the_inference_in_hand_and_no_longer(tmp_path: Path) -> None:
    stuck, model = StuckBackend(), make_model(tmp_path, VECTOR)
    session = Session(ListObserver(), ManualClock())
    session.offer(replace(model, backend=stuck))
    held = in_thread(lambda: session.infer(frame_of(model), "x"))
    stuck.started.wait(5)

    assert not session.offer(model, 0.1)
    stuck.go_on.set()
    held.join()

    assert session.infer(frame_of(model), "y").error is None
    assert session.model is model


def test_the_last_of_two_offers_is_taken(tmp_path: Path) -> None:
    stuck, model = StuckBackend(), make_model(tmp_path, VECTOR)
    session = Session(ListObserver(), ManualClock())
    session.offer(replace(model, backend=stuck))
    held = in_thread(lambda: session.infer(frame_of(model), "x"))
    stuck.started.wait(5)
    first: list[bool] = []
    waiting = in_thread(lambda: first.append(session.offer(None, 30.0)))
    while session._offer is None:
        waiting.join(0.001)

    assert not session.offer(model, 0.0)
    stuck.go_on.set()
    held.join()
    waiting.join()

    assert session.await_model(5.0)
    session.infer(frame_of(model), "y")
    assert (first, session.model) == ([False], model)


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread
