# SPDX-License-Identifier: Apache-2.0
"""What a source computes and what each runtime that it reaches computes.

Parity is of the float file that our exporters and emitters wrote, on 64 inputs and
more; the promise is 80 dB. Branches are counted on the float32 inputs next to a
threshold; the baseline is skl2onnx as it is, which leaves a scaler before the trees.
Latency is one thread, the runtimes in turns.
"""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import skops.io
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from bench.harness import models
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from converter.data.frames import ArrayFrames
from converter.exports import export_model
from converter.loaders import Source, open_source
from converter.measure import time_in_turns
from converter.model import RUNTIMES, Runtime
from converter.parity import check_parity
from converter.runtimes import open_engine
from converter.tensors import Float32

NETWORKS: Final = {
    "ad/ad01.h5": (640,),
    "ic/pretrainedResnet.h5": (32, 32, 3),
    "kws/kws_ref_model": (49, 10, 1),
    "sww/str_ww_ref_model.h5": (30, 1, 40),
    "vww/vww_96.h5": (96, 96, 3),
}
_PROMISE: Final = 80.0
_FLIP: Final = 0.5
_TURNS: Final = 7


def run() -> Document:
    """Measure Keras and SavedModel networks, scikit-learn models, and a forest."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [*_networks(), *_estimators(folder), _flips(folder), _forest(folder)]
    return make_document("convert_sources", rows)


def _networks() -> list[Row]:
    if not models.are_here():
        return [Row(models.ABSENT, 0.0, "-")]
    random, rows = np.random.default_rng(0), []
    for name, shape in NETWORKS.items():
        frames = random.normal(0, 1, (64, *shape)).astype(np.float32)
        with open_source(models.TINY / name) as source:
            rows += _parity(source, frames)
    return rows


def _parity(source: Source, frames: Float32) -> list[Row]:
    reached: list[Runtime] = [one for one in RUNTIMES if not source.why_not(one)]
    rows = []
    for one in reached:
        found = check_parity(source, export_model(source, one), ArrayFrames(frames))
        rows.append(
            Row(
                f"parity: {source.name} on {one}",
                found.sqnr_db,
                "dB",
                n=found.inputs,
                asked=f">= {_PROMISE:g} dB",
                holds=found.sqnr_db >= _PROMISE,
            )
        )
    return rows


def _save(folder: Path, name: str, estimator: Any) -> Path:
    values, labels = load_digits(return_X_y=True)
    path = folder / f"{name}.skops"
    skops.io.dump(estimator.fit(values.astype(np.float32), labels), path)
    return path


def _estimators(folder: Path) -> list[Row]:
    frames, rows = load_digits().data.astype(np.float32), []
    for name, estimator in {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "mlp": make_pipeline(StandardScaler(), MLPClassifier((32,), random_state=0)),
        "forest": RandomForestClassifier(50, random_state=0),
        "boosting": make_pipeline(
            StandardScaler(), HistGradientBoostingRegressor(max_iter=40)
        ),
    }.items():
        with open_source(_save(folder, name, estimator)) as source:
            rows += _parity(source, frames)
    return rows


def _flips(folder: Path) -> Row:
    """Count answers of another leaf, on inputs beside the middle of two seen rows."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    random = np.random.default_rng(1)
    values = random.normal(0, 1, (2000, 6)).astype(np.float32)
    estimator = make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0))
    estimator.fit(values, np.arange(2000.0))
    middle = ((values[:1000].astype(np.float64) + values[1000:]) / 2).astype(np.float32)
    ways = [np.nextafter(middle, np.float32(one)) for one in (-np.inf, np.inf)]
    inputs = np.concatenate([middle, *ways, *_beside(estimator, values)])
    expected = estimator.predict(inputs).reshape(-1, 1)
    path = folder / "tree.skops"
    skops.io.dump(estimator, path)
    with open_source(path) as source:
        ours = open_engine("reference", source.export("reference")).run(inputs)
    plain = skl2onnx.to_onnx(
        estimator, initial_types=[("input", FloatTensorType([None, 6]))]
    )
    theirs = open_engine("onnxruntime", plain.SerializeToString()).run(inputs)
    found = int((np.abs(ours - expected) > _FLIP).sum())
    baseline = int((np.abs(theirs - expected) > _FLIP).sum())
    return Row(
        "scaler and tree: other branches than scikit-learn, skl2onnx as baseline",
        found,
        "inputs",
        baseline=baseline,
        n=len(inputs),
        asked="0",
        holds=found == 0,
    )


def _beside(estimator: Any, values: Float32) -> list[Float32]:
    """Return rows whose compared value is the float32 at, or next to, a threshold."""
    scaler, tree = estimator[0], estimator[1].tree_
    inner = tree.feature >= 0
    features, limits = tree.feature[inner], tree.threshold[inner]
    near = limits * scaler.scale_[features] + scaler.mean_[features]
    rows = values[np.arange(len(near)) % len(values)].copy()
    every = np.arange(len(near))
    found = []
    for step in range(-2, 3):
        moved = rows.copy()
        value = near.astype(np.float32)
        for _ in range(abs(step)):
            value = np.nextafter(value, np.float32(np.inf * np.sign(step)))
        moved[every, features] = value
        found.append(moved)
    return found


def _forest(folder: Path) -> Row:
    path = _save(folder, "latency", RandomForestClassifier(50, random_state=0))
    frames = load_digits().data[:64].astype(np.float32)
    with open_source(path) as source:
        engines = [
            open_engine(one, export_model(source, one).content)
            for one in ("reference", "onnxruntime")
        ]
    turns = [time_in_turns(engines, frames) for _ in range(_TURNS)]
    value, count, spread = summarise([ours.median_us for ours, _ in turns])
    baseline, _, _ = summarise([base.median_us for _, base in turns])
    return Row(
        "50 trees, one row: the reference runtime, ONNX Runtime as baseline",
        value,
        "µs",
        baseline=baseline,
        ratio=value / baseline,
        n=count,
        spread=spread,
    )


if __name__ == "__main__":
    write_document(run())
