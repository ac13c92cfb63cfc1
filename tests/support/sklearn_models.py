# SPDX-License-Identifier: Apache-2.0
"""scikit-learn models for tests, fitted in milliseconds on digits of that package.

In-process: the package has no state that a test could disturb.
"""

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Float32 = NDArray[np.float32]


def digits() -> tuple[Float32, NDArray[np.int64]]:
    """Return float32 [1797, 64] and int64 [1797]."""
    values, labels = load_digits(return_X_y=True)
    return values.astype(np.float32), labels.astype(np.int64)


def fitted(estimator: Any, values: Float32, targets: Any) -> Any:
    """Return the estimator, fitted; how well does not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(values, targets)


def save_joblib(path: Path, estimator: Any) -> Path:
    """Write a joblib file."""
    joblib.dump(estimator, path)
    return path


def predicted(estimator: Any, values: Float32) -> NDArray[Any]:
    """Return what the framework says: probabilities, or values [n, 1]."""
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(values))
    return np.asarray(estimator.predict(values)).reshape(len(values), -1)
