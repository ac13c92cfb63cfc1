# SPDX-License-Identifier: Apache-2.0
"""The parts of the drift measurements work, and find what they should."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bench import drift_concept, drift_device_cost, drift_faults, drift_performance
from bench.contract_window import make_profile
from bench.drift_false_alarms import FixedRules
from bench.drift_performance import Period
from bench.drift_watch import read_profile
from bench.harness import side_environment
from bench.harness.concept_streams import AFTER, BEFORE, Errors, run_stream
from bench.harness.fleet_simulation import Effect, Fleet, Plan, Silence
from examples.watch.data import (
    LIVE_SUBJECTS,
    SPARE_SUBJECTS,
    load_recordings,
    select,
    take_part,
)
from fleet.drift.yardstick import Yardstick

PLAN = Plan(seed=3, devices=40, features=4, has_season=False)


def test_fixed_rules_flag_what_moved() -> None:
    moved = tuple(range(40))
    quiet, shifted = FixedRules(), FixedRules()
    for rules, effects in (
        (quiet, ()),
        (shifted, (Effect(0, moved, (0,), shift=1.0),)),
    ):
        fleet = Fleet(Plan(3, 40, 4, has_season=False, effects=effects))
        for _ in range(5):
            rules.watch(fleet.next_windows())

    # One feature of four moved in 40 devices and 5 windows: 200 windows of it.
    assert quiet.windows == shifted.windows == 200
    # PSI > 0.2 errs in an eighth of the windows of devices that only differ.
    assert quiet.flagged["PSI > 0.2"] < 800 / 6
    assert shifted.flagged["PSI > 0.2"] >= quiet.flagged["PSI > 0.2"] + 150
    assert set(shifted.flagged) == {
        "PSI > 0.2",
        "KS p < .05",
        "KS with Benjamini-Hochberg .05 a window",
    }


def test_a_window_drawn_has_the_moments_of_the_window() -> None:
    rules, windows = FixedRules(), Fleet(PLAN).next_windows()

    rules.draw(windows)

    (rows,) = rules.drawn
    distance = np.abs(windows.mean - rows.mean(axis=0)[:, np.newaxis]).sum(axis=0)
    device = int(distance.argmin())
    np.testing.assert_allclose(rows.mean(axis=0), windows.mean[:, device], atol=1e-5)
    np.testing.assert_allclose(rows.var(axis=0), windows.variance[:, device], rtol=1e-4)


def test_silent_devices_send_nothing_and_the_others_go_on() -> None:
    silence = Silence(1, 3, (4, 5))
    fleet = Fleet(Plan(3, 40, 4, silences=(silence,)))
    came = [fleet.next_windows().came for _ in range(4)]

    assert [int(one.sum()) for one in came] == [40, 38, 38, 40]
    assert np.flatnonzero(~came[1]).tolist() == [4, 5]


def test_accuracy_is_estimated_from_counts_where_inputs_moved() -> None:
    random = np.random.default_rng(4)

    def period(centre: float) -> Period:
        positive = 1 / (1 + np.exp(-random.normal(centre, 2, 20_000)))
        truth = random.random(20_000) < positive
        both = np.stack((1 - positive, positive), axis=1).astype(np.float32)
        return Period(both, truth.astype(np.int64))

    reference, harder = period(2.0), period(0.0)
    (estimate,) = drift_performance.estimate_chunks(
        reference, harder, [slice(0, 20_000)]
    )

    assert reference.right.mean() - harder.right.mean() > 0.04
    assert estimate == pytest.approx(float(harder.right.mean()), abs=0.01)


def test_counting_costs_something_and_a_window_fits_its_promise() -> None:
    profile, rows = make_profile(), drift_device_cost.make_rows(512)

    median, n, spread = drift_device_cost.time_blocks(profile, rows, 64)

    assert (median > 0, n, spread >= 0) == (True, drift_device_cost.ROUNDS, True)
    assert drift_device_cost.weigh(profile, rows[:300]) <= 512


def test_a_dead_gyroscope_is_named_on_the_wrist_that_has_it() -> None:
    recordings = load_recordings()
    live = select(recordings, (*SPARE_SUBJECTS, *LIVE_SUBJECTS), "right")
    yardstick = Yardstick.read(read_profile(take_part(live, "calibrate")))

    watches = drift_faults.run_fault(
        recordings, yardstick, 5, 1, drift_faults.stop_gyroscope
    )

    assert set(watches.flagged) == {5}
    assert watches.named[5][0] == "stuck"


def test_errors_that_rise_are_found_and_a_quiet_stream_is_not() -> None:
    random = np.random.default_rng(5)
    confidence = random.uniform(0.5, 1, 10_000)
    reference = random.uniform(0.5, 1, 2000)
    rate = np.repeat([1.0, 2.0], 5000)  # of what confidence promises
    errors = Errors(
        random.random(10_000) < (1 - confidence) * rate,
        confidence,
        random.random(2000) < 1 - reference,
        reference,
    )

    ours = drift_concept.watch(drift_concept.Ours(errors), errors)
    dummy = drift_concept.watch(drift_concept.Dummy(), errors)

    assert ours.false == 0
    assert ours.delay is not None
    assert ours.delay <= 500
    assert (dummy.false, dummy.delay) == (10, 250)


def test_a_frozen_model_errs_more_after_the_change() -> None:
    errors = run_stream("SINE1", 1, 3)

    assert len(errors.wrong) == BEFORE + AFTER
    assert errors.wrong[:BEFORE].mean() < 0.25
    assert errors.wrong[BEFORE:].mean() > 0.6


def test_a_worker_runs_in_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "ready").touch()
    monkeypatch.setattr(side_environment, "place_environment", lambda _: folder)
    monkeypatch.setattr(side_environment, "WORKERS", tmp_path)
    (tmp_path / "echo.py").write_text(
        "import json, sys\nprint(json.dumps(sys.argv[1:]))"
    )
    (tmp_path / "fail.py").write_text("raise SystemExit('no such column')")

    assert side_environment.run_aside("whylogs", "echo", "a", tmp_path) == [
        "a",
        str(tmp_path),
    ]
    with pytest.raises(RuntimeError, match="no such column"):
        side_environment.run_aside("whylogs", "fail")
