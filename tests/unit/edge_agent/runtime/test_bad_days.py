# SPDX-License-Identifier: Apache-2.0
"""What must not stop inference: a file that goes away, a clock that jumps, bad rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent import load
from edge_agent.flow import Chunk, Float32
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_agent.stats.checkpoint import open_counter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_contract.errors import EdgeError
from edge_contract.window_report import WindowReport
from tests.support.agent_doubles import ListSink, ListSource, ManualClock, MemoryLedger
from tests.support.bundles import ModelRecipe, make_bundle

YEAR_US = 365 * 86_400 * 1_000_000
WINDOW_US = 300_000_000


class Stand:
    """A session that is counted for real, on a clock that the test sets."""

    def __init__(self, folder: Path, recipe: ModelRecipe) -> None:
        self.bundle = folder / "a.bundle"
        make_bundle(self.bundle, recipe)
        self.model = load(self.bundle, allow_unsigned=True)
        self.clock, self.ledger = ManualClock(), MemoryLedger()
        self.counter = open_counter(folder, "main")
        periods = Periods(WINDOW_US, 10_000_000)
        self.keeper = StatisticsKeeper(self.ledger, self.counter, self.clock, periods)
        self.session = Session(self.keeper, self.clock)
        self.session.offer(self.model)

    def infer(self, value: float = 0.5) -> Float32 | None:
        """Run one frame that comes by itself."""
        frame = np.full(self.model.input_shape, value, dtype=np.float32)
        return self.session.infer(frame, "x").output

    def close(self) -> list[WindowReport]:
        """Close the open window; return all, as a server reads them."""
        self.keeper.finish_window()
        self.counter.close()
        return [WindowReport.decode(one.encode()) for one in self.ledger.reports]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, ModelRecipe(observe="vector", features=4))


def flip_every_kilobyte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), 64):
        data[position] ^= 0x10
    path.write_bytes(data)


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_every_kilobyte, delete, empty])
@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_a_model_whose_file_is_damaged_serves_on(
    tmp_path: Path, runtime: str, damage: object
) -> None:
    recipe = ModelRecipe(observe="vector", features=4, runtime=runtime)  # type: ignore[arg-type]
    stand = Stand(tmp_path, recipe)
    before = stand.infer()
    assert before is not None

    damage(stand.bundle)  # type: ignore[operator]

    # A model is read whole into memory, never mapped: nothing of it is left on disk.
    for _ in range(100):
        np.testing.assert_array_equal(stand.infer(), before)
    with pytest.raises((EdgeError, OSError)):
        load(stand.bundle, allow_unsigned=True)
    assert sum(one.inferences for one in stand.close()) == 101


def test_a_wall_clock_that_jumps_closes_windows_and_loses_nothing(
    stand: Stand,
) -> None:
    for jump_us in (0, YEAR_US, -3 * YEAR_US, 1, WINDOW_US, -WINDOW_US, -60 * YEAR_US):
        stand.clock.jump(jump_us)
        assert stand.infer() is not None

    reports = stand.close()

    assert [one.inferences for one in reports] == [1, 1, 2, 1, 1, 1]
    assert reports[-1].start_us == 0
    assert stand.keeper.produced == 7


def jumping_chunks() -> Iterator[Chunk]:
    """Rows whose event time goes back, stands still, and leaps."""
    for number, time_us in enumerate((10**15, 10**15 - YEAR_US, 0, -5, 2**63 - 1, 0)):
        rows = np.full((1, 4), number / 8, dtype=np.float32)
        yield Chunk("a", rows, np.array([time_us]), is_start=number == 0)


def test_a_source_whose_clock_jumps_is_served_all_the_same(stand: Stand) -> None:
    sink = ListSink()
    chunks = list(jumping_chunks())
    InferenceLoop(ListSource(chunks), sink, stand.session, lambda: None).run()

    assert [one.error for one in sink.results] == [None] * len(chunks)
    assert sum(one.inferences for one in stand.close()) == len(chunks)


def test_missing_values_among_good_ones_fail_alone(stand: Stand) -> None:
    values = [0.5, np.nan, 0.25, np.inf, -np.inf, 0.5]
    found = [stand.infer(value) is not None for value in values]

    (report,) = stand.close()

    assert found == [True, False, True, False, False, True]
    statistics = report.statistics(stand.model.profile)
    assert (statistics.inferences, statistics.failed) == (3, 3)
    missing = statistics.counts[stand.model.profile.layout.missing]
    assert missing.tolist() == [3, 3, 3, 3]


def test_a_runtime_that_fails_is_told_and_the_next_frame_served(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Model = stand.model
    with monkeypatch.context() as patch:
        patch.setattr(model.backend, "_invoke", fail)
        assert stand.infer() is None
    assert stand.infer() is not None
    assert (stand.session.failed, stand.session.faulty) == (1, 1)
    (report,) = stand.close()
    assert (report.inferences, report.failed) == (1, 1)


def fail() -> None:
    raise RuntimeError("out of memory")
