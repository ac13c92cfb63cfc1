# SPDX-License-Identifier: Apache-2.0
"""A release on trial: committed, rolled back, or never let in."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.daemon.deployment import Deployment
from edge_agent.daemon.loading import Loader, LoadRules
from edge_agent.flow import Chunk, Grid
from edge_agent.probe import Limits, Proof, format_proof
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.session import Session
from edge_contract.golden import GoldenResult
from tests.support.agent_doubles import ListObserver, ListSink, ManualClock
from tests.support.bundles import ModelRecipe, make_bundle

RECIPE = ModelRecipe()
TRIAL = 5
# What a probe prints that found nothing wrong; the probe itself is tested elsewhere.
GOLDEN = GoldenResult(ok=True, finite=True, max_abs=0.0, sqnr_db=99.0, disagreements=0)
PROOF = Proof("", "", "", "", GOLDEN)
PASSED = [sys.executable, "-c", f"print({format_proof(PROOF)!r})"]


@dataclass
class Release:
    """A staged release."""

    digest: str
    path: Path


@dataclass
class Script:
    """Hands over one staged release, and keeps what it hears."""

    staged: Release | None = None
    heard: list[str] = field(default_factory=list)

    def poll(self) -> Release | None:
        staged, self.staged = self.staged, None
        return staged

    def begin_trial(self) -> None:
        self.heard.append("trial")

    def committed(self) -> None:
        self.heard.append("committed")

    def rolled_back(self, reason: str, detail: str = "") -> None:
        del detail
        self.heard.append(reason)


class EndlessSource:
    """One stream that never ends; its rows are missing values while ``bad``."""

    def __init__(self) -> None:
        self.row = 0
        self.closed = threading.Event()
        self.bad = False

    @property
    def features(self) -> int | None:
        return 2

    @property
    def is_exhausted(self) -> bool:
        return self.closed.is_set()

    def read(self, grid: Grid) -> Chunk | None:
        self.closed.wait(0.001)
        count = grid.hop if self.row else grid.length
        times = np.arange(self.row, self.row + count, dtype=np.int64)
        rows = np.ones((count, 2), dtype=np.float32)
        if self.bad:
            rows[:] = np.nan
        chunk = Chunk("a", rows, times, self.row == 0, "0")
        self.row += count
        return chunk

    def close(self) -> None:
        self.closed.set()


@dataclass
class Bench:
    """A running loop with a deployment around it."""

    folder: Path
    session: Session
    source: EndlessSource
    script: Script
    deployment: Deployment

    def stage(self, recipe: ModelRecipe) -> str:
        path = self.folder / f"{recipe.seed}.bundle"
        digest = make_bundle(path, recipe)
        self.script.staged = Release(digest, path)
        return digest

    def settle(self) -> None:
        """Tick until the staged release is committed or refused."""
        wait = threading.Event()
        for _ in range(5000):
            self.deployment.tick()
            if self.script.heard and self.script.heard[-1] != "trial":
                return
            wait.wait(0.002)
        pytest.fail(f"the trial never ended: {self.script.heard}")

    @property
    def serving(self) -> str:
        model = self.session.model
        return "" if model is None else model.digest


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    session, source, script = (
        Session(ListObserver(), ManualClock()),
        EndlessSource(),
        Script(),
    )
    rules = LoadRules(1, "auto", Limits(), lambda _: PASSED)
    loader, clock = Loader(tmp_path, rules), ManualClock()
    deployment = Deployment(session, script, loader, clock, lambda: None)
    deployment.trial_inferences = TRIAL
    deployment.features = lambda: source.features
    loop = InferenceLoop(source, ListSink(), session, lambda: None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield Bench(tmp_path, session, source, script, deployment)
    loop.stop()
    source.close()
    thread.join()


def test_a_release_that_proves_itself_is_committed(bench: Bench) -> None:
    digest = bench.stage(RECIPE)
    bench.settle()

    assert bench.script.heard == ["trial", "committed"]
    assert bench.serving == digest
    assert bench.session.failed == 0


def test_a_release_with_wrong_golden_outputs_never_serves(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    bench.script.heard.clear()
    bench.stage(replace(RECIPE, seed=1, wrong_golden=True))
    bench.settle()

    assert bench.script.heard == ["agent.model"]
    assert bench.serving == good


def test_a_release_for_other_rows_never_serves(bench: Bench) -> None:
    bench.stage(replace(RECIPE, seed=1, features=3))
    bench.settle()

    assert bench.script.heard == ["agent.model"]
    assert bench.serving == ""


def test_a_bundle_that_is_another_release_never_serves(bench: Bench) -> None:
    bench.stage(RECIPE)
    assert bench.script.staged is not None
    bench.script.staged.digest = "0" * 64
    bench.settle()

    assert bench.script.heard == ["agent.model"]


def test_a_bundle_that_is_gone_is_reported(bench: Bench) -> None:
    bench.script.staged = Release("0" * 64, bench.folder / "none.bundle")
    bench.settle()

    assert bench.script.heard == ["agent.model"]


def test_a_release_that_fails_on_good_rows_is_taken_out_again(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    bench.script.heard.clear()
    bench.stage(replace(RECIPE, seed=1))
    bench.deployment.tick()
    bench.session.faulty += 1
    bench.settle()

    assert bench.script.heard == ["trial", "agent.update.trial"]
    assert bench.serving == good


def test_missing_values_of_a_sensor_condemn_no_release(bench: Bench) -> None:
    bench.source.bad = True
    bench.stage(RECIPE)
    bench.deployment.tick()
    wait = threading.Event()
    while bench.session.failed < TRIAL:
        wait.wait(0.001)
    bench.deployment.tick()
    assert bench.script.heard == ["trial"]

    bench.source.bad = False
    bench.settle()
    assert bench.script.heard == ["trial", "committed"]
