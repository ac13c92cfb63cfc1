# SPDX-License-Identifier: Apache-2.0
"""Models, the session and the loop: good ones, bad ones, and swaps between frames."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent import load
from edge_agent.errors import BackendError, ModelError, SinkError
from edge_agent.flow import Chunk, Grid, Result
from edge_agent.runtime.backends.litert import load_model
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.model import Model, load_bundle, prove
from edge_agent.runtime.pipeline import FramePipeline
from edge_agent.runtime.session import Session
from edge_contract import signing
from edge_contract.bundle import Bundle
from edge_contract.errors import (
    BundleDigestError,
    BundleFormatError,
    BundleSignatureError,
    BundleUnsignedError,
    EdgeError,
)
from tests.support.agent_doubles import ListObserver, ListSink, ListSource, ManualClock
from tests.support.bundles import ModelRecipe, make_bundle

RECIPE = ModelRecipe()
GRID = Grid(8, 4, 2)


def make_model(folder: Path, recipe: ModelRecipe = RECIPE) -> Model:
    path = folder / f"{recipe.seed}.bundle"
    make_bundle(path, recipe)
    return load(path, allow_unsigned=True)


def chunk(start: int, stop: int, stream: str = "a") -> Chunk:
    numbers = np.arange(start, stop)
    rows = np.stack([np.sin(numbers), np.cos(numbers)], axis=1).astype(np.float32)
    return Chunk(stream, rows, numbers.astype(np.int64) * 10, start == 0, "0")


def test_a_model_gives_probabilities_with_and_without_the_batch(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    frame = np.ones((8, 2), dtype=np.float32)

    output = model.infer(frame)

    assert output.shape == (3,)
    assert output.sum() == pytest.approx(1)
    np.testing.assert_array_equal(model.infer(frame[np.newaxis]), output)
    assert model.labels == ("low", "middle", "high")


def test_an_input_of_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"expected .* \[8, 2\], found \[7, 2\]"):
        make_model(tmp_path).infer(np.zeros((7, 2), dtype=np.float32))


@pytest.mark.parametrize("data", [b"", b"no model at all", bytes(64) + b"TFL3"])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(BackendError, match="the model cannot be loaded"):
        load_model(data, threads=1)


def test_unsigned_bundles_need_to_be_allowed(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a.bundle")
    with pytest.raises(BundleUnsignedError, match="it is unsigned"):
        load(tmp_path / "a.bundle")


def test_signed_bundles_need_a_trusted_key(tmp_path: Path) -> None:
    private, public = signing.generate_key()
    _, stranger = signing.generate_key()
    (tmp_path / "good.pub").write_bytes(public)
    (tmp_path / "other.pub").write_bytes(stranger)
    path = tmp_path / "a.bundle"
    make_bundle(path, sign_key=private)

    assert load(path, trust=[tmp_path / "good.pub"]).manifest.name == "toy"
    with pytest.raises(BundleSignatureError):
        load(path, trust=[tmp_path / "other.pub"])
    with pytest.raises(BundleUnsignedError, match="no key is given"):
        load(path)


def test_an_altered_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    make_bundle(path)
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[whole.index(b"TFL3") + 40] ^= 1
    path.write_bytes(altered)
    with pytest.raises((BundleDigestError, BundleFormatError)):
        load(path, allow_unsigned=True)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleFormatError):
        load(path, allow_unsigned=True)


def test_golden_vectors_that_are_not_met_stop_a_model(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    make_bundle(path, replace(RECIPE, wrong_golden=True))
    with Bundle.open(path) as bundle, pytest.raises(ModelError, match="golden vectors"):
        prove(load_bundle(bundle), bundle)


def test_frames_carry_their_new_rows_and_times(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    pipeline = FramePipeline(model.grid)
    tasks = [*pipeline.push(chunk(0, 10)), *pipeline.push(chunk(10, 16))]

    assert [one.id for one in tasks] == ["a:8:0", "a:12:0", "a:16:0"]
    assert [one.is_start for one in tasks] == [True, False, False]
    assert [one.times_us.tolist() for one in tasks] == [
        [10 * n for n in range(8)],
        [80, 90, 100, 110],
        [120, 130, 140, 150],
    ]
    np.testing.assert_array_equal(tasks[1].rows, tasks[1].data[4:])


def test_a_missing_value_gives_a_failed_inference_that_is_observed(
    tmp_path: Path,
) -> None:
    observer = ListObserver()
    session = Session(observer, ManualClock())
    model = make_model(tmp_path)
    session.offer(model)
    rows = chunk(0, 8)
    rows.rows[3, 1] = np.nan
    (task,) = FramePipeline(model.grid).push(rows)

    result = session.process(task, GRID)

    assert result is not None
    assert (result.output, result.error) == (None, "the output is not finite")
    assert observer.observations[0].output is None
    assert (session.finite, session.failed) == (0, 1)


def test_a_swap_under_load_fails_no_inference_and_loses_none(tmp_path: Path) -> None:
    observer, sink = ListObserver(), ListSink()
    models = [make_model(tmp_path, replace(RECIPE, seed=seed)) for seed in (1, 2)]
    session = Session(observer, ManualClock())
    session.offer(models[0])
    chunks = [chunk(0, 8), *(chunk(n, n + 4) for n in range(8, 20_000, 4))]
    source = ListSource(chunks)
    loop = InferenceLoop(source, sink, session, lambda: None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    swaps = 0
    while thread.is_alive() and swaps < 40:
        swaps += 1
        session.offer(models[swaps % 2], 5.0)
        seen = len(sink.results)
        while thread.is_alive() and len(sink.results) == seen:
            time.sleep(0.0001)
    thread.join()

    assert swaps > 5
    assert session.failed == 0
    assert len(sink.results) == len(observer.observations) == len(chunks)
    for result, task in zip(sink.results, chunks, strict=True):
        assert result.output is not None
        assert result.id == f"a:{int(task.times_us[-1]) // 10 + 1}:0"
    assert {one.digest for one in sink.results} == {one.digest for one in models}
    assert len(observer.bound) >= swaps


def test_each_output_is_of_the_model_whose_digest_it_carries(tmp_path: Path) -> None:
    observer = ListObserver()
    models = [make_model(tmp_path, replace(RECIPE, seed=seed)) for seed in (1, 2)]
    session = Session(observer, ManualClock())
    pipeline = FramePipeline(models[0].grid)
    for model in models:
        session.offer(model)
        (task,) = pipeline.push(chunk(0, 8))
        result = session.process(task, GRID)
        assert result is not None
        assert result.digest == model.digest
        assert result.output is not None
        np.testing.assert_array_equal(result.output, model.infer(task.data))


def test_a_model_can_be_withdrawn(tmp_path: Path) -> None:
    session = Session(ListObserver(), ManualClock())
    session.offer(make_model(tmp_path))
    session.offer(None, 0.0)

    assert session.model is None
    assert session.previous is not None


def test_a_sink_that_fails_stops_nothing(tmp_path: Path) -> None:
    class FullSink(ListSink):
        def write(self, result: Result) -> None:
            super().write(result)
            raise SinkError("sink: the disk is full")

    observer, sink = ListObserver(), FullSink()
    session = Session(observer, ManualClock())
    session.offer(make_model(tmp_path))
    loop = InferenceLoop(
        ListSource([chunk(0, 8), chunk(8, 12)]), sink, session, lambda: None
    )
    loop.run()

    assert (session.finite, loop.sink_errors) == (2, 2)


def test_no_bundle_with_a_flipped_byte_raises_anything_but_our_errors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.bundle"
    make_bundle(path)
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    for position in random.integers(0, len(whole), 150):
        altered = bytearray(whole)
        altered[position] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(altered)
        try:
            load(path, allow_unsigned=True)
        except EdgeError:
            continue
