# SPDX-License-Identifier: Apache-2.0
"""Hot swap under full load: what callers notice of a new release.

Threads call the session without a pause. First they are left alone, which gives the
normal p99; then another thread swaps between two releases as the daemon does: load the
bundle, run its golden vectors, warm it, offer it. Promises: no request fails, and none
waits longer than twice the normal p99.
"""

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.harness import agent, models
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from edge_agent.runtime.model import load_bundle, prove
from edge_agent.runtime.session import Session
from edge_contract.bundle import Bundle
from tests.support.bundles import ModelRecipe, make_bundle

CALLERS: Final = 4
REQUESTS: Final = 100_000
SWAPS: Final = 24
PAUSE_SECONDS: Final = 0.01


class Caller(threading.Thread):
    """Sends requests without a pause, and keeps what each one took.

    Args:
        session: Answers.
        frame: The request.
    """

    def __init__(self, session: Session, frame: agent.Float32) -> None:
        super().__init__(name="caller")
        self._session = session
        self._frame = frame
        self._stop_asked = threading.Event()
        self.took_ns: list[int] = []
        self.failed = 0

    def run(self) -> None:
        """Call until ``stop``."""
        clock, took = time.perf_counter_ns, self.took_ns
        while not self._stop_asked.is_set():
            start = clock()
            result = self._session.infer(self._frame, "r")
            took.append(clock() - start)
            self.failed += result.output is None

    def stop(self) -> None:
        """End after the request in hand."""
        self._stop_asked.set()
        self.join()


def run() -> Document:
    """Measure the callers alone, then under swaps."""
    rows = measure("10-feature MLP", agent.MLP, None, REQUESTS)
    if models.are_here():
        content = agent.person_model()
        rows += measure("VWW int8", agent.PERSON, content, REQUESTS // 5)
    return make_document("agent_swap", rows)


def measure(
    name: str, recipe: ModelRecipe, content: bytes | None, requests: int
) -> list[Row]:
    """Swap between two releases of one model.

    Raises:
        RuntimeError: A request was not served, or not accounted for.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = [folder / f"{seed}.bundle" for seed in (1, 2)]
        for seed, path in enumerate(paths):
            make_bundle(path, replace(recipe, seed=seed), model=content)
        with agent.serving(paths[0], folder) as serving:
            frame = np.ones(serving.model.input_shape, dtype=np.float32)
            calm = [Caller(serving.session, frame) for _ in range(CALLERS)]
            load_for(calm, requests)
            busy = [Caller(serving.session, frame) for _ in range(CALLERS)]
            took = swap_under(busy, serving.session, paths, requests)
            serving.keeper.checkpoint()
            counted, produced = serving.session.finite, serving.keeper.produced
    made = sum(len(one.took_ns) for one in calm + busy)
    if not made == counted == produced:
        msg = f"swap: made {made} requests, served {counted}, accounted for {produced}"
        raise RuntimeError(msg)
    return state(name, calm, busy, took)


def load_for(callers: list[Caller], requests: int) -> None:
    """Let the callers send at least so many requests."""
    for one in callers:
        one.start()
    while sum(len(one.took_ns) for one in callers) < requests:
        time.sleep(PAUSE_SECONDS)
    for one in callers:
        one.stop()


def swap_under(
    callers: list[Caller], session: Session, paths: list[Path], requests: int
) -> list[float]:
    """Swap in even steps while the callers send; return what each took in ms."""
    for one in callers:
        one.start()
    took: list[float] = []
    while len(took) < SWAPS:
        due = requests * (len(took) + 1) // (SWAPS + 1)
        while sum(len(one.took_ns) for one in callers) < due:
            time.sleep(PAUSE_SECONDS)
        start = time.perf_counter()
        with Bundle.open(paths[(len(took) + 1) % 2]) as bundle:
            model = load_bundle(bundle)
            prove(model, bundle)
        model.warm()
        if not session.offer(model, 30.0):
            raise RuntimeError("swap: an offer was not taken within 30 s")
        took.append((time.perf_counter() - start) * 1000)
    while sum(len(one.took_ns) for one in callers) < requests:
        time.sleep(PAUSE_SECONDS)
    for one in callers:
        one.stop()
    return took


def state(
    name: str, calm: list[Caller], busy: list[Caller], took: list[float]
) -> list[Row]:
    """Return the rows of the document."""
    before, during = gathered_us(calm), gathered_us(busy)
    normal, longest = float(np.percentile(before, 99)), float(during.max())
    value, n, spread = summarise(took)
    failed = sum(one.failed for one in calm + busy)
    return [
        Row(
            f"{name}: failed requests, {len(took)} swaps, {CALLERS} callers",
            float(failed),
            "requests",
            n=len(during),
            asked="0",
            holds=failed == 0,
        ),
        Row(
            f"{name}: longest wait under swaps, beside the normal p99",
            longest,
            "us",
            normal,
            longest / normal,
            n=len(during),
            asked="<= 2",
            holds=longest <= 2 * normal,
        ),
        Row(
            f"{name}: longest wait under swaps, beside the longest without",
            longest,
            "us",
            float(before.max()),
            longest / float(before.max()),
            n=len(during),
        ),
        Row(
            f"{name}: p99 under swaps, beside the normal p99",
            float(np.percentile(during, 99)),
            "us",
            normal,
            float(np.percentile(during, 99)) / normal,
            n=len(during),
        ),
        Row(f"{name}: load, prove, warm, offer", value, "ms", n=n, spread=spread),
    ]


def gathered_us(callers: list[Caller]) -> np.ndarray:
    """Return what every request took, microseconds."""
    return np.concatenate([np.array(one.took_ns) for one in callers]) / 1000


if __name__ == "__main__":
    write_document(run())
