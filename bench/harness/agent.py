# SPDX-License-Identifier: Apache-2.0
"""An agent's serving part, set up as the daemon sets it up, for measurements.

Owns the models that they run and the parts around them: a session, observed by a keeper
whose windows and checkpoints go to a real outbox on disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from bench.harness import models
from converter.candidate import Recipe
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from edge_agent import load
from edge_agent.clock import SystemClock
from edge_agent.daemon.pauses import shorten_pauses
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_agent.stats.checkpoint import open_counter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_agent.telemetry.outbox import Outbox
from tests.support.bundles import ModelRecipe

Float32 = NDArray[np.float32]
SLOT: Final = "main"
MLP: Final = ModelRecipe(
    features=10,
    labels=tuple(f"class-{index}" for index in range(7)),
    observe="vector",
    name="mlp",
    hidden=(16,),
)
MLP_SOFTMAX: Final = replace(MLP, name="mlp-softmax", post=({"step": "softmax"},))
PERSON: Final = ModelRecipe(
    length=96,
    features=3,
    labels=("none", "person"),
    observe="image",
    name="vww",
    post=({"step": "softmax"},),
)


@dataclass(frozen=True, eq=False)
class Serving:
    """What serves, and what accounts for it."""

    model: Model
    session: Session
    keeper: StatisticsKeeper
    outbox: Outbox


class Bare:
    """The bare interpreter: set the input, invoke, get the output.

    Args:
        content: A ``.tflite`` file of one input and one output.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def infer(self, data: NDArray[Any]) -> NDArray[Any]:
        """Run the model once."""
        self._interpreter.set_tensor(self._input, data)
        self._interpreter.invoke()
        result: NDArray[Any] = self._interpreter.get_tensor(self._output)
        return result


def person_model() -> bytes:
    """Return MLPerf's person detector as edge-convert quantizes it (static int8)."""
    content = (models.TINY / "vww" / "vww_96_float.tflite").read_bytes()
    quantizer = LitertQuantizer(normalise(content, source="vww"))
    quantizer.calibrate(models.person_frames(32, seed=1)[:, np.newaxis])
    return quantizer.make(Recipe("litert", "static", "minmax")).content


@contextmanager
def serving(bundle: Path, folder: Path) -> Iterator[Serving]:
    """Serve a bundle as the daemon does, with a state folder of its own."""
    clock, model = SystemClock(), load(bundle, allow_unsigned=True)
    model.warm()
    outbox = Outbox(folder / "outbox.sqlite", 64 << 20, clock)
    with open_counter(folder, SLOT) as counter:
        periods = Periods(window_us=300_000_000, checkpoint_us=10_000_000)
        keeper = StatisticsKeeper(outbox.ledger(SLOT), counter, clock, periods)
        session = Session(keeper, clock)
        session.offer(model)
        shorten_pauses()
        keeper.start()
        try:
            yield Serving(model, session, keeper, outbox)
        finally:
            keeper.stop()
            outbox.close()
