# SPDX-License-Identifier: Apache-2.0
import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.flow import Float32, ModelCard, Result
from edge_agent.serve.inference import Inference
from edge_agent.serve.refusals import UnreadyError
from edge_agent.serve.request import InferRequest, Wanted
from tests.support.asgi_client import HereExecutor
from tests.support.served_models import TwinRepository, TwinSlot, load_model


@dataclass
class Stopwatch:
    """A nanosecond clock: a request takes what the test says next."""

    spent_ns: list[int]
    now_ns: int = 0
    is_running: bool = field(default=False)

    def __call__(self) -> int:
        if self.is_running:
            self.now_ns += self.spent_ns.pop(0)
        self.is_running = not self.is_running
        return self.now_ns


def frames(rows: int) -> InferRequest:
    return InferRequest("", np.ones((rows, 4), np.float32), Wanted(is_binary=True))


def test_only_what_is_known_to_be_short_runs_on_the_loop(tmp_path: Path) -> None:
    slot = TwinSlot(load_model(tmp_path))
    executor = HereExecutor()
    watch = Stopwatch([10, 10, 10, 10_000, 10, 10])
    inference = Inference(
        TwinRepository({"main": slot}), executor, inline_ns=1000, clock_ns=watch
    )
    aside = []
    for rows in (1, 1, 100, 1, 1):
        before = executor.calls
        asyncio.run(inference.run("main", frames(rows)))
        aside.append(executor.calls - before)

    # Unknown; 10 ns; 100 times 10 ns is not below 1000; short, and then long; long.
    assert aside == [1, 0, 1, 0, 1]


def test_a_new_release_is_unknown_again(tmp_path: Path) -> None:
    first = load_model(tmp_path)
    slot = TwinSlot(first)
    executor = HereExecutor()
    inference = Inference(
        TwinRepository({"main": slot}),
        executor,
        inline_ns=1000,
        clock_ns=Stopwatch([10] * 3),
    )
    asyncio.run(inference.run("main", frames(1)))
    asyncio.run(inference.run("main", frames(1)))
    slot.model = replace(first, digest="ab" * 32)
    asyncio.run(inference.run("main", frames(1)))

    assert executor.calls == 2


class Swapping(TwinSlot):
    """Another release serves after each frame, for a while."""

    swaps = 0

    def infer(self, frame: Float32, request_id: str) -> Result:
        result = super().infer(frame, request_id)
        if self.swaps:
            self.swaps -= 1
            assert self.model is not None
            self.model = replace(self.model, digest=f"{self.swaps:064x}")
        return result

    @property
    def card(self) -> ModelCard | None:
        return super().card


def test_all_rows_are_answered_by_one_release(tmp_path: Path) -> None:
    slot = Swapping(load_model(tmp_path))
    inference = Inference(TwinRepository({"main": slot}), HereExecutor())

    slot.swaps = 1
    inferred = inference.infer("main", frames(3))

    assert inferred.card.digest == f"{0:064x}"
    assert inferred.outputs.shape == (3, 3)

    slot.swaps = 99
    with pytest.raises(UnreadyError, match="replaced during the request"):
        inference.infer("main", frames(3))
