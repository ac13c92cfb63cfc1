# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from converter.errors import ConvertMetricError, ConvertUsageError
from converter.metrics import open_metric
from converter.metrics.bootstrap import resample_weights
from converter.metrics.scores import auc, f1

RANDOM = np.random.default_rng(5)


def outputs(samples: int, classes: int, truth: np.ndarray, lead: float) -> np.ndarray:
    scores = RANDOM.normal(size=(samples, classes))
    scores[np.arange(samples), truth] += lead
    shares = np.exp(scores)
    found: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return found.astype(np.float32)


@pytest.mark.parametrize("classes", [2, 5])
def test_auc_and_f1_are_those_of_scikit_learn(classes: int) -> None:
    truth = RANDOM.integers(0, classes, size=300)
    found = outputs(300, classes, truth, 1.0)
    once = np.ones((1, 300))
    expected = roc_auc_score(
        truth, found[:, 1] if classes == 2 else found, multi_class="ovr"
    )
    assert auc(found, truth, once)[0] == pytest.approx(expected)
    wanted = f1_score(truth, found.argmax(axis=1), average="macro")
    assert f1(found, truth, once)[0] == pytest.approx(wanted)


def test_weights_count_a_frame_as_often_as_it_was_drawn() -> None:
    truth = RANDOM.integers(0, 2, size=40)
    found = outputs(40, 2, truth, 0.5)
    drawn = RANDOM.integers(0, 40, size=40)
    weights = np.bincount(drawn, minlength=40)[np.newaxis].astype(float)
    once = np.ones((1, 40))
    for score in (auc, f1):
        again = score(found[drawn], truth[drawn], once)
        assert score(found, truth, weights)[0] == pytest.approx(again[0])


def test_frames_of_a_cluster_are_drawn_together() -> None:
    clusters = np.repeat([7, 3, 9], [2, 3, 1])
    for block in resample_weights(6, clusters, 50):
        assert (block[:, 0] == block[:, 1]).all()
        assert (block[:, 2] == block[:, 4]).all()
        assert (block[:, [0, 2, 5]].sum(axis=1) == 3).all()


def test_top1_counts_pairs_and_agreement_asks_for_no_labels() -> None:
    base = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    other = np.eye(3, dtype=np.float32)[[0, 1, 1, 0, 0]]
    truth = np.array([0, 1, 2, 1, 0])
    found = open_metric("top1", "classification").compare(base, other, truth, None)
    assert (found.base, found.other, found.drop) == (0.6, 0.6, 0.0)
    assert (found.worse, found.better, found.samples) == (1, 1, 5)
    agreement = open_metric("agreement", "classification")
    assert agreement.compare(base, other, None, None).other == 0.6


def test_real_outputs_agree_by_relative_rms_error() -> None:
    base = RANDOM.normal(size=(200, 8)).astype(np.float32)
    other = base + RANDOM.normal(scale=0.01, size=base.shape).astype(np.float32)
    found = open_metric("agreement", "regression").compare(base, other, None, None)
    assert found.base == 0.0
    assert found.drop == pytest.approx(0.01, rel=0.1)
    assert found.drop < found.upper < 0.012


def test_rmse_is_compared_as_a_share_of_floats() -> None:
    truth = RANDOM.normal(size=(100, 1)).astype(np.float32)
    base, other = truth + np.float32(1.0), truth + np.float32(1.1)
    found = open_metric("rmse", "regression").compare(base, other, truth, None)
    assert found.drop == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(("name", "samples"), [("auc", 150), ("f1", 150)])
def test_the_interval_covers_the_true_drop(name: str, samples: int) -> None:
    """Over 120 draws the upper end lies under the true drop at most about 1 in 20."""
    metric = open_metric(name, "classification")
    truth = RANDOM.integers(0, 2, size=100_000)
    scores = RANDOM.normal(size=100_000) + 1.2 * truth
    worse = scores + RANDOM.normal(scale=0.7, size=100_000)

    def pair(of: np.ndarray) -> np.ndarray:
        share = 1 / (1 + np.exp(0.6 - of))
        return np.stack([1 - share, share], axis=1).astype(np.float32)

    first, second = pair(scores), pair(worse)
    score = auc if name == "auc" else f1
    once = np.ones((1, len(truth)))
    true_drop = float(score(first, truth, once)[0] - score(second, truth, once)[0])
    covered = 0
    for _ in range(120):
        drawn = RANDOM.integers(0, len(truth), size=samples)
        found = metric.compare(first[drawn], second[drawn], truth[drawn], None)
        covered += found.upper >= true_drop
    assert covered >= 108


def test_the_samples_needed_shrink_the_width_as_asked() -> None:
    metric = open_metric("rmse", "regression")
    truth = RANDOM.normal(size=(100, 1)).astype(np.float32)
    noise = RANDOM.normal(size=truth.shape).astype(np.float32)
    base, other = truth + noise, truth + noise * np.float32(1.001)
    found = metric.compare(base, other, truth, None)
    needed = metric.samples_needed(found, found.drop + (found.upper - found.drop) / 2)
    assert needed in range(399, 402)
    assert metric.samples_needed(found, found.drop) is None


@pytest.mark.parametrize(
    ("name", "task", "error"),
    [
        ("accuracy", "classification", "expected top1, auc"),
        ("top1", "regression", "expected a classifier"),
        ("rmse", "classification", "expected real-valued outputs"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(
    name: str, task: str, error: str
) -> None:
    with pytest.raises(ConvertUsageError, match=error):
        open_metric(name, task)  # type: ignore[arg-type]


def test_a_metric_without_its_labels_is_refused() -> None:
    base = np.ones((20, 2), dtype=np.float32)
    with pytest.raises(ConvertMetricError, match="expected labels"):
        open_metric("auc", "classification").compare(base, base, None, None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return 1 / 0", r"raised ZeroDivisionError.* at own\.py:2"),
        ("    return float('nan')", "expected a finite number, found nan"),
        ("    return None", "raised TypeError"),
        ("    return [", "cannot be loaded: it raised SyntaxError"),
    ],
)
def test_a_failing_metric_of_the_users_own_is_named(
    tmp_path: Path, body: str, message: str
) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"def score(outputs, truth):\n{body}\n")
    base = np.ones((20, 2), dtype=np.float32)
    with pytest.raises(ConvertMetricError, match=message):
        open_metric(f"{path}:score", "classification").compare(base, base, None, None)


def test_a_metric_of_the_users_own_is_used(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("def score(outputs, truth):\n    return outputs.mean() + 1\n")
    base = RANDOM.normal(size=(50, 1)).astype(np.float32)
    metric = open_metric(f"{path}:score", "regression")
    found = metric.compare(base, base - np.float32(0.1), None, None)
    assert found.drop == pytest.approx(0.1 / (1 + base.mean()), rel=1e-3)
    with pytest.raises(ConvertMetricError, match="a function 'absent'"):
        open_metric(f"{path}:absent", "regression")
    with pytest.raises(ConvertMetricError, match="no such file"):
        open_metric(f"{tmp_path / 'none.py'}:f", "regression")
