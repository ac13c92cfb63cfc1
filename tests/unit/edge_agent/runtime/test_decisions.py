# SPDX-License-Identifier: Apache-2.0
"""Decisions in the loop: a memory a stream, behind what statistics see."""

from pathlib import Path

import numpy as np

from edge_agent import load
from edge_agent.flow import Chunk, Result
from edge_agent.runtime.decisions import Decisions
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import FramePipeline, Task
from edge_agent.runtime.session import Session
from tests.support.agent_doubles import ListObserver, ListSink, ListSource, ManualClock
from tests.support.bundles import ModelRecipe, make_bundle

SOFTMAX = {"step": "softmax"}
MEAN = {"step": "smoothing", "method": "mean", "results": "2"}
NEVER = {"step": "threshold", "at": "2"}


def make_model(folder: Path, *post: dict[str, str], seed: int = 0) -> Model:
    path = folder / f"{seed}.bundle"
    make_bundle(path, ModelRecipe(observe="vector", post=(SOFTMAX, *post), seed=seed))
    return load(path, allow_unsigned=True)


def chunks(count: int, stream: str = "a") -> list[Chunk]:
    rows = np.random.default_rng(3).normal(size=(count, 2)).astype(np.float32)
    return [
        Chunk(stream, rows[n : n + 1], np.array([n]), n == 0, id=f"{stream}{n}")
        for n in range(count)
    ]


def run_loop(model: Model, source: list[Chunk]) -> tuple[list[Result], ListObserver]:
    observer, sink = ListObserver(), ListSink()
    session = Session(observer, ManualClock())
    session.offer(model)
    InferenceLoop(ListSource(source), sink, session, lambda: None).run()
    return sink.results, observer


def test_sinks_get_the_smoothed_output_and_statistics_the_models(
    tmp_path: Path,
) -> None:
    model = make_model(tmp_path, MEAN)
    source = [
        one for pair in zip(chunks(3), chunks(3, "b"), strict=True) for one in pair
    ]
    results, observer = run_loop(model, source)
    raw = [model.infer(one.rows) for one in source]

    assert [one.id for one in results] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [one.stream for one in results] == ["a", "b"] * 3
    for number, result in enumerate(results):
        expected = raw[number] if number < 2 else (raw[number] + raw[number - 2]) / 2
        assert result.output is not None
        np.testing.assert_allclose(result.output, expected, rtol=1e-6)
        winner = int(expected.argmax())
        assert result.ranked == ((model.labels[winner], float(result.output[winner])),)
        observed = observer.observations[number].output
        assert observed is not None
        np.testing.assert_array_equal(observed, raw[number])


def test_below_the_threshold_nothing_is_named(tmp_path: Path) -> None:
    results, _ = run_loop(make_model(tmp_path, NEVER), chunks(2))
    assert [one.ranked for one in results] == [(), ()]
    assert all(one.output is not None for one in results)


def task(stream: str, *, is_start: bool) -> Task:
    rows = np.zeros((1, 2), dtype=np.float32)
    return Task("id", stream, rows, rows, np.array([0]), is_start)


def test_the_memory_ends_with_the_stream_and_with_the_release(tmp_path: Path) -> None:
    first = make_model(tmp_path, MEAN)
    other = make_model(tmp_path, MEAN, seed=1)
    decisions = Decisions()

    def settle(value: float, model: Model, *, is_start: bool = False) -> float:
        output = np.array([value, 0, 0], dtype=np.float32)
        result = Result("id", 0, model.digest, output, None)
        settled = decisions.settle(task("a", is_start=is_start), result, model)
        assert result.output is output  # a watcher may still look at it
        assert settled.output is not None
        return float(settled.output[0])

    assert [settle(1, first), settle(3, first)] == [1, 2]
    assert settle(5, first, is_start=True) == 5
    assert settle(7, first) == 6
    assert settle(9, other) == 9
    late = Result("id", 0, first.digest, np.zeros(3, dtype=np.float32), None)
    settled = decisions.settle(task("a", is_start=False), late, other)
    assert (settled.ranked, settled.stream) == ((), "a")


def test_the_sources_id_is_that_of_the_last_frame() -> None:
    grid_rows = np.zeros((6, 1), dtype=np.float32)
    from edge_agent.flow import Grid

    pipeline = FramePipeline(Grid(4, 1, 1))
    chunk = Chunk("s", grid_rows, np.arange(6), is_start=True, tag="t", id="mine")
    assert [one.id for one in pipeline.push(chunk)] == ["s:4:t", "s:5:t", "mine"]
