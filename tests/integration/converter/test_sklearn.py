# SPDX-License-Identifier: Apache-2.0
"""scikit-learn models from their file to an answer on a device, by every runtime."""

import json
import pickle  # noqa: TID251 - what is refused must exist
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from converter.cli import main
from converter.errors import ConvertLoaderError, ConvertModelError, ConvertTrustError
from converter.loaders import open_source
from edge_agent import load
from edge_contract.bundle import Bundle
from edge_contract.reference_model import ReferenceModel
from tests.support.sklearn_models import digits, fitted, predicted, save_joblib

VALUES, LABELS = digits()
IS_ODD = LABELS % 2


def build(
    folder: Path, capsys: pytest.CaptureFixture[str], model: Path, *more: str
) -> dict[str, Any]:
    data = folder / "digits.npz"
    np.savez(data, x=VALUES[:600], allow_pickle=True)
    out = folder / "out.bundle"
    code = main(
        [
            *("build", str(model), "--calibration", str(data), "-o", str(out)),
            *("--observe", "embedding", "--json", *more),
        ]
    )
    assert code == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "targets", "variant"),
    [
        (RandomForestClassifier(12, random_state=0), LABELS, "reference-float32"),
        (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=30)),
            IS_ODD,
            None,
        ),
        (
            make_pipeline(MinMaxScaler(), HistGradientBoostingRegressor(max_iter=9)),
            LABELS / 9,
            "reference-float32",
        ),
    ],
    ids=["forest", "logistic", "boosted"],
)
def test_a_bundle_answers_as_the_estimator(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    estimator: Any,
    targets: Any,
    variant: str | None,
) -> None:
    estimator = fitted(estimator, VALUES[600:], targets[600:])
    path = save_joblib(tmp_path / "model.joblib", estimator)
    report = build(
        tmp_path,
        capsys,
        path,
        "--trust-pickle",
        *("--profile", "armv7l-tflite214,aarch64-a72", "--objective", "size"),
    )
    assert report["framework"] == "sklearn"
    assert report["parity_sqnr_db"] >= 80
    if variant is not None:
        assert report["selected"]["default"] == variant
        assert report["selected"]["armv7l-tflite214"] == variant
    expected = predicted(estimator, VALUES[:50])
    for profile in ("default", "aarch64-a72"):
        model = load(
            tmp_path / "out.bundle", allow_unsigned=True, device_profile=profile
        )
        found = np.stack([model.infer(one) for one in VALUES[:50]])
        np.testing.assert_allclose(found, expected, atol=0.02, rtol=0.02)


@pytest.mark.slow
def test_names_of_classes_come_from_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = np.array(["even", "odd"])[IS_ODD]
    tree = fitted(DecisionTreeClassifier(max_depth=4), VALUES, names)
    path = tmp_path / "tree.skops"
    skops.io.dump(tree, path)
    build(tmp_path, capsys, path)
    with Bundle.open(tmp_path / "out.bundle") as bundle:
        assert bundle.manifest.output.labels == ("even", "odd")
        assert bundle.manifest.task == "classification"
        assert set(bundle.manifest.lineage["toolchain"]) >= {
            "scikit-learn",
            "skl2onnx",
            "skops",
        }


def at_thresholds(values: Any, count: int = 400) -> Any:
    """Inputs beside every split between two seen values: the next float32s."""
    random = np.random.default_rng(3)
    rows = values[random.integers(0, len(values), count)]
    other = values[random.integers(0, len(values), count)]
    middle = ((rows.astype(np.float64) + other) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(way)) for way in (-np.inf, np.inf)]
    return np.concatenate([middle, *beside])


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeRegressor(random_state=0),
        make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0)),
        make_pipeline(MinMaxScaler(), RandomForestRegressor(3, random_state=0)),
        make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20)),
    ],
    ids=["tree", "scaled tree", "scaled forest", "scaled boosting"],
)
def test_no_branch_flips_beside_a_threshold(tmp_path: Path, estimator: Any) -> None:
    random = np.random.default_rng(5)
    values = random.normal(0, 1, (500, 6)).astype(np.float32)
    targets = np.arange(500) % 97 * 1000.0  # another leaf is another number
    estimator = fitted(estimator, values, targets)
    path = save_joblib(tmp_path / "model.joblib", estimator)
    with open_source(path, trust_pickle=True) as source:
        content = source.export("reference")
        inputs = at_thresholds(values)
        expected = source.infer(inputs)
    found = ReferenceModel.decode(content).infer(inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.01)


@pytest.mark.slow
def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    estimator = make_pipeline(
        StandardScaler(), RandomForestClassifier(4, random_state=0)
    )
    path = save_joblib(tmp_path / "model.joblib", fitted(estimator, VALUES, LABELS))
    found = []
    for _ in range(2):  # in a process each
        with open_source(path, trust_pickle=True) as source:
            found.append([source.export(one) for one in ("onnxruntime", "reference")])
    assert found[0] == found[1]


@pytest.mark.slow
def test_missing_values_go_the_way_they_were_trained(tmp_path: Path) -> None:
    values = VALUES[:300].copy()
    values[::3, 20:40] = np.nan
    estimator = fitted(HistGradientBoostingClassifier(max_iter=5), values, LABELS[:300])
    path = save_joblib(tmp_path / "model.joblib", estimator)
    with open_source(path, trust_pickle=True) as source:
        content = source.export("reference")
    found = ReferenceModel.decode(content).infer(values)
    np.testing.assert_allclose(found, estimator.predict_proba(values), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 3])
def test_boosting_has_the_links_of_its_classes(tmp_path: Path, rows: int) -> None:
    labels = LABELS[:200] % rows
    estimator = fitted(GradientBoostingClassifier(n_estimators=4), VALUES[:200], labels)
    path = save_joblib(tmp_path / "model.joblib", estimator)
    with open_source(path, trust_pickle=True) as source:
        model = ReferenceModel.decode(source.export("reference"))
    assert model.link == {2: "pair", 3: "softmax"}[rows]
    found = model.infer(VALUES[:200])
    np.testing.assert_allclose(found, estimator.predict_proba(VALUES[:200]), atol=1e-6)


class Exploit:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_is_not_read_without_a_word(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name in ("model.joblib", "model.pkl", "model.PICKLE"):
        (tmp_path / name).write_bytes(pickle.dumps(Exploit(mark)))
        with pytest.raises(ConvertTrustError, match="--trust-pickle") as raised:
            open_source(tmp_path / name)
        assert raised.value.exit_code == 3
    assert not mark.exists()


@pytest.mark.slow
def test_skops_with_foreign_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(Exploit(tmp_path / "mark"), path)
    with pytest.raises(ConvertTrustError, match="Exploit"):
        open_source(path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [DecisionTreeClassifier(max_depth=3), HistGradientBoostingClassifier(max_iter=2)],
    ids=["tree", "boosting"],
)
def test_a_tree_that_leads_out_of_its_nodes_is_refused(
    tmp_path: Path, estimator: Any
) -> None:
    estimator = fitted(estimator, VALUES[:200], LABELS[:200])
    if isinstance(estimator, DecisionTreeClassifier):
        state = estimator.tree_.__getstate__()
        state["nodes"]["left_child"][0] = 2**30
        estimator.tree_.__setstate__(state)
    else:
        estimator._predictors[0][0].nodes["right"][0] = 2**30
    path = tmp_path / "model.skops"
    skops.io.dump(estimator, path)
    with pytest.raises(ConvertModelError, match="leads out of its nodes"):
        open_source(path)


@pytest.mark.slow
def test_what_is_no_served_estimator_is_named(tmp_path: Path) -> None:
    cases = {
        "no predict_proba": fitted(LinearSVC(), VALUES[:50], IS_ODD[:50]),
        "expected a classifier or a regressor": fitted(
            IsolationForest(n_estimators=2), VALUES[:50], None
        ),
        "expected a fitted model": LinearRegression(),
    }
    path = tmp_path / "model.joblib"
    for message, estimator in cases.items():
        save_joblib(path, estimator)
        with pytest.raises(ConvertModelError, match=message):
            open_source(path, trust_pickle=True)
    path.write_bytes(b"no pickle")
    with pytest.raises(ConvertModelError, match="scikit-learn cannot load this file"):
        open_source(path, trust_pickle=True)


@pytest.mark.slow
def test_another_version_of_the_framework_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(fitted(LinearRegression(), VALUES[:50], LABELS[:50]), path, protocol=2)
    from sklearn import __version__

    content = path.read_bytes()
    other = ("0" + __version__[1:]).encode()
    assert content.count(__version__.encode()) == 1
    path.write_bytes(content.replace(__version__.encode(), other))
    with pytest.raises(
        ConvertModelError, match=f"saved by scikit-learn {other.decode()}"
    ):
        open_source(path, trust_pickle=True)


@pytest.mark.slow
def test_an_estimator_that_reaches_onnx_only_says_why(tmp_path: Path) -> None:
    estimator = fitted(
        CalibratedClassifierCV(LinearSVC(), cv=2), VALUES[:80], IS_ODD[:80]
    )
    path = save_joblib(tmp_path / "model.joblib", estimator)
    with open_source(path, trust_pickle=True) as source:
        assert source.why_not("onnxruntime") == ""
        assert source.why_not("reference").startswith("the reference runtime has no ")
        assert source.labels == ("0", "1")


def test_without_the_extra_the_next_step_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden" / "skl2onnx").mkdir(parents=True)
    code = "raise ImportError('hidden by a test')"
    (tmp_path / "hidden" / "skl2onnx" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    path = tmp_path / "model.skops"
    path.write_bytes(b"")
    with pytest.raises(ConvertLoaderError, match=r"edgeloop\[sklearn\]"):
        open_source(path)
