# SPDX-License-Identifier: Apache-2.0
"""``edge-agent replay``: the daemon's frames, steps and statistics, without a fleet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import load
from edge_agent.cli import main
from tests.support.bundles import ModelRecipe, make_bundle

ROWS = 64
SOFTMAX = {"step": "softmax"}
NEVER = {"step": "threshold", "at": "2"}
MEAN = {"step": "smoothing", "method": "mean", "results": "3"}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    x = random.normal(size=(2 * ROWS, 2)).astype(np.float32)
    x[10, 1] = np.nan
    path = tmp_path / "recording.npz"
    np.savez(path, x=x, recording=np.repeat(["p", "q"], ROWS))
    return path


def replay(
    folder: Path,
    recording: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: ModelRecipe,
    *more: str,
) -> dict[str, Any]:
    bundle = folder / "toy.bundle"
    make_bundle(bundle, recipe)
    told = ["replay", str(bundle), "--input", str(recording), "--allow-unsigned"]
    assert main([*told, "--json", *more]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_recording_is_run_as_the_daemon_would(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ("--window", "64ms", "--sample-rate-hz", "1000", "--order", "sequential")
    found = replay(tmp_path, recording, capsys, ModelRecipe(), *told)

    # Frames of 8 rows, one every 4: 15 a recording; the row without a value is in two.
    assert (found["inferences"], found["failed"]) == (28, 2)
    assert len(found["results"]) == 30
    assert [one["id"].split(":")[0] for one in found["results"]] == ["p"] * 15 + [
        "q"
    ] * 15
    assert [one["rows"] for one in found["windows"]] == [64, 64]
    assert [one["start_seconds"] for one in found["windows"]] == [0, 0.064]
    assert sum(one["inferences"] for one in found["windows"]) == 28
    assert [one["missing"] for one in found["features"]] == [0, 1]
    assert sum(found["decided"].values()) == 28

    model = load(tmp_path / "toy.bundle", allow_unsigned=True)
    with np.load(recording) as arrays:
        expected = model.infer(arrays["x"][64:72])
    first = found["results"][15]
    assert first["output"] == [round(float(one), 6) for one in expected]
    assert first["label"] == model.labels[int(expected.argmax())]
    assert found["digest"] == model.digest


def test_decisions_do_not_reach_the_windows(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = replay(tmp_path, recording, capsys, ModelRecipe())
    decided = replay(
        tmp_path, recording, capsys, ModelRecipe(post=(SOFTMAX, MEAN, NEVER))
    )

    assert decided["decided"] == {"": 28}
    assert decided["mean_score"] is None
    assert decided["windows"] == plain["windows"]
    assert decided["results"][3]["output"] != plain["results"][3]["output"]


def test_text_shows_results_windows_and_a_summary(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "toy.bundle"
    make_bundle(bundle)
    told = ["replay", str(bundle), "--input", str(recording), "--allow-unsigned"]
    assert main(told) == 0
    text = capsys.readouterr().out
    assert text.count("\np:") + text.count("\nq:") + text.startswith("p:") == 30
    assert "28 inferences, 2 failed" in text
    assert "f1: mean" in text

    assert main([*told, "--summary"]) == 0
    assert "p:" not in capsys.readouterr().out


def test_what_does_not_fit_is_refused_before_it_runs(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "toy.bundle"
    make_bundle(bundle, ModelRecipe(features=3))
    told = ["replay", str(bundle), "--input", str(recording)]
    assert main([*told, "--allow-unsigned"]) == 1
    assert "expected rows of 3 values, found 2" in capsys.readouterr().err
    assert main(told) == 3
    assert main([*told[:-1], str(tmp_path / "none.npz"), "--allow-unsigned"]) == 1
    with pytest.raises(SystemExit):
        main([*told, "--window", "soon"])
