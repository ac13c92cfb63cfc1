# SPDX-License-Identifier: Apache-2.0
"""A release on trial: committed, rolled back, or never let in."""

import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.daemon.deployment import Deployment
from edge_agent.daemon.loading import Loader, LoadRules
from edge_agent.daemon.proving import Instruments
from edge_agent.flow import Chunk, Grid
from edge_agent.ota.trial import TrialLimits
from edge_agent.probe import Limits, Proof, format_proof
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.model import load_bundle
from edge_agent.runtime.session import Session
from edge_contract.golden import GoldenResult
from edge_contract.update_policy import UpdatePolicy, parse_policy
from edge_contract.wire import Scalar
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
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    is_on_trial: bool = False
    figures: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass
class Script:
    """Hands over one staged release, and keeps what it hears."""

    staged: Release | None = None
    heard: list[str] = field(default_factory=list)
    figures: dict[str, Scalar] = field(default_factory=dict)
    wanted: bool = True

    def is_wanted(self, digest: str) -> bool:
        del digest
        return self.wanted

    def begin_shadow(self) -> None:
        self.heard.append("shadow")

    def note_shadow(self, figures: Mapping[str, Scalar]) -> None:
        self.figures = dict(figures)

    def poll(self) -> Release | None:
        staged, self.staged = self.staged, None
        return staged

    def begin_trial(self) -> None:
        self.heard.append("trial")

    def committed(self, figures: Mapping[str, Scalar]) -> None:
        self.figures = dict(figures)
        self.heard.append("committed")

    def rolled_back(
        self,
        reason: str,
        detail: str = "",
        figures: Mapping[str, Scalar] | None = None,
    ) -> None:
        del detail
        self.figures = dict(figures or {})
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

    def stage(self, recipe: ModelRecipe, **policy: object) -> str:
        path = self.folder / f"{recipe.seed}.bundle"
        digest = make_bundle(path, recipe)
        self.script.staged = Release(digest, path, parse_policy(policy))
        self.script.heard.clear()
        return digest

    def settle(self) -> None:
        """Tick until the staged release is committed or refused."""
        wait = threading.Event()
        for _ in range(5000):
            self.deployment.tick()
            if self.script.heard and self.script.heard[-1] not in {"trial", "shadow"}:
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
    deployment.limits = TrialLimits(inferences=TRIAL)
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


def new(seed: int = 1, **changes: object) -> ModelRecipe:
    return replace(RECIPE, seed=seed, **changes)  # type: ignore[arg-type]


def test_the_model_before_is_asked_too_in_a_trial(bench: Bench) -> None:
    bench.stage(RECIPE)
    bench.settle()
    digest = bench.stage(new())
    bench.settle()

    assert bench.script.heard == ["trial", "committed"]
    assert bench.serving == digest
    compared = bench.script.figures["compared"]
    assert isinstance(compared, int)
    assert compared >= TRIAL
    assert bench.script.figures["confidence_ppm_before"] is not None
    assert bench.session._watchers == ()


def test_not_finite_outputs_are_taken_out_within_the_process(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    bias = (float("nan"),) * 3
    path = bench.folder / "nan.bundle"
    digest = make_bundle(path, new(bias=bias))
    bench.script.staged = Release(digest, path)
    bench.script.heard.clear()
    loader = bench.deployment._releases
    assert isinstance(loader, Loader)
    loader._load = load_bundle  # type: ignore[method-assign]
    bench.settle()

    assert bench.script.heard == ["trial", "agent.update.trial"]
    assert bench.script.figures["invariant"] == "not-finite"
    assert bench.serving == good


def test_other_answers_than_the_model_before_are_a_breach(bench: Bench) -> None:
    good = bench.stage(new(bias=(9.0, 0.0, 0.0)))
    bench.settle()
    bench.stage(new(2, bias=(0.0, 0.0, 9.0)), trial={"max_disagreement_percent": 30})
    bench.settle()

    assert bench.script.heard == ["trial", "agent.update.trial"]
    assert bench.script.figures["invariant"] == "disagreement"
    assert bench.serving == good


def test_a_process_that_grows_is_a_breach(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    rss = [100]
    bench.deployment.instruments = Instruments(rss_bytes=lambda: rss[0])
    bench.stage(new(), trial={"max_memory_bytes": 50, "inferences": 10**6})
    bench.deployment.tick()
    assert bench.deployment.trial is not None
    rss[0] = 200
    bench.settle()

    assert bench.script.figures["invariant"] == "memory"
    assert bench.serving == good


def test_a_slower_model_is_a_breach(bench: Bench) -> None:
    bench.stage(RECIPE)
    bench.settle()
    latency = np.zeros(98, dtype=np.int64)
    bench.deployment.instruments = Instruments(latency=latency.copy)
    latency[50] += 100
    digest = bench.stage(new(), trial={"max_p95_percent": 150, "inferences": 10**6})
    bench.deployment.tick()
    assert bench.serving == digest
    latency[75] += 100  # half a second: slower than any machine's noise
    bench.settle()

    assert bench.script.figures["invariant"] == "latency"
    before, after = (bench.script.figures[key] for key in ("p95_us_before", "p95_us"))
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after > before


def test_a_trial_without_traffic_ends_at_its_time(bench: Bench) -> None:
    clock = bench.deployment._clock
    assert isinstance(clock, ManualClock)
    bench.source.bad = True
    digest = bench.stage(RECIPE, trial={"seconds": 60})
    bench.deployment.tick()
    clock.advance(59_000_000)
    bench.deployment.tick()
    assert bench.script.heard == ["trial"]
    clock.advance(1_000_000)
    bench.deployment.tick()

    assert bench.script.heard == ["trial", "committed"]
    assert bench.serving == digest


def test_a_shadow_comes_before_the_trial_and_answers_nobody(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    digest = bench.stage(new(), shadow={"inferences": 20})
    bench.deployment.tick()
    assert bench.script.heard == ["shadow"]
    assert bench.deployment.shadow == digest
    assert bench.serving == good
    bench.settle()

    assert bench.script.heard == ["shadow", "trial", "committed"]
    assert bench.serving == digest
    assert bench.session._watchers == ()


def test_a_shadow_that_differs_never_serves(bench: Bench) -> None:
    good = bench.stage(new(bias=(9.0, 0.0, 0.0)))
    bench.settle()
    other = new(2, bias=(0.0, 0.0, 9.0))
    policy = {
        "shadow": {"inferences": 10**6},
        "trial": {"max_disagreement_percent": 30},
    }
    bench.stage(other, **policy)
    bench.settle()

    assert bench.script.heard == ["shadow", "agent.update.shadow"]
    assert bench.script.figures["invariant"] == "disagreement"
    assert bench.serving == good
    assert bench.deployment.shadow is None


def test_a_shadow_ends_at_its_time_and_counts_earlier_starts(bench: Bench) -> None:
    clock = bench.deployment._clock
    assert isinstance(clock, ManualClock)
    bench.stage(RECIPE)
    bench.settle()
    bench.stage(new(), shadow={"inferences": 10**6, "seconds": 100})
    staged = bench.script.staged
    assert staged is not None
    staged.figures = {"compared": 1000, "disagreed": 3, "seconds": 40}
    bench.deployment.tick()
    clock.advance(59_000_000)
    bench.deployment.tick()
    assert bench.script.heard == ["shadow"]
    noted = bench.script.figures
    assert noted["seconds"] == 99
    compared = noted["compared"]
    assert isinstance(compared, int)
    assert compared >= 1000
    clock.advance(1_000_000)
    bench.deployment.tick()
    assert bench.script.heard[:2] == ["shadow", "trial"]


def test_a_shadow_that_is_wanted_no_more_ends(bench: Bench) -> None:
    good = bench.stage(RECIPE)
    bench.settle()
    bench.stage(new(), shadow={"inferences": 10**6})
    bench.deployment.tick()
    bench.script.wanted = False
    bench.deployment.tick()

    assert bench.script.heard == ["shadow"]
    assert bench.deployment.shadow is None
    assert bench.serving == good


def test_releases_of_other_frames_are_not_compared(bench: Bench) -> None:
    bench.stage(RECIPE)
    bench.settle()
    bench.stage(new(hop=8), shadow={"inferences": 20})
    bench.settle()

    assert bench.script.heard == ["trial", "committed"]
    assert bench.script.figures["compared"] == 0


def test_a_trial_that_had_begun_goes_back_to_no_shadow(bench: Bench) -> None:
    bench.stage(RECIPE)
    bench.settle()
    bench.stage(new(), shadow={"inferences": 20})
    assert bench.script.staged is not None
    bench.script.staged.is_on_trial = True
    bench.settle()

    assert bench.script.heard == ["trial", "committed"]


def test_a_machine_that_slows_both_condemns_no_release(bench: Bench) -> None:
    bench.stage(RECIPE)
    bench.settle()
    latency = np.zeros(98, dtype=np.int64)
    bench.deployment.instruments = Instruments(latency=latency.copy)
    latency[50] += 100
    digest = bench.stage(new(), trial={"max_p95_percent": 150, "inferences": 200})
    bench.deployment.tick()
    trial = bench.deployment._trial
    assert trial is not None
    assert trial.comparison is not None
    trial.comparison._shadow._latency[62] += 10_000
    latency[60] += 100
    bench.settle()

    assert bench.script.heard == ["trial", "committed"]
    assert bench.serving == digest
