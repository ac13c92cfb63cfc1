# SPDX-License-Identifier: Apache-2.0
"""NannyML's estimate of accuracy on the census data in its wheel, and that data."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def main(path: str, chunk_rows: str) -> None:
    """Estimate chunks of the analysis period; write both periods' arrays to ``path``.

    Every period has ``probability`` of the positive class, ``predicted`` and ``truth``.
    """
    warnings.simplefilter("ignore")
    import nannyml

    nannyml.disable_usage_logging()
    reference, analysis, targets = nannyml.load_us_census_ma_employment_data()
    estimator = nannyml.CBPE(
        problem_type="classification_binary",
        y_pred_proba="predicted_probability",
        y_pred="prediction",
        y_true="employed",
        metrics=["accuracy"],
        chunk_size=int(chunk_rows),
    )
    estimator.fit(reference)
    estimate = estimator.estimate(analysis).filter(period="analysis").to_df()
    whole = analysis.merge(targets, on="id")
    arrays: dict[str, Float32] = {}
    for name, frame in (("reference", reference), ("analysis", whole)):
        arrays |= {
            f"{name}_probability": _array(frame["predicted_probability"]),
            f"{name}_predicted": _array(frame["prediction"]),
            f"{name}_truth": _array(frame["employed"]),
        }
    np.savez(path, allow_pickle=False, **arrays)
    found = {
        "estimated": estimate[("accuracy", "value")].tolist(),
        "first": estimate[("chunk", "start_index")].tolist(),
        "last": estimate[("chunk", "end_index")].tolist(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _array(column: pd.Series) -> Float32:
    values: Float32 = column.to_numpy(dtype=np.float32)
    return values


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
