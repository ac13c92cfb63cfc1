# SPDX-License-Identifier: Apache-2.0
"""How many features Evidently's default preset calls drifted, window by window."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def main(path: str) -> None:
    """Judge ``windows`` [n, rows, F] against ``reference`` [m, F] of an ``.npz``."""
    warnings.simplefilter("ignore")
    data = np.load(path)
    names = [f"f{index}" for index in range(data["reference"].shape[1])]
    reference = pd.DataFrame(data["reference"], columns=names)
    drifted, method = [], ""
    for window in data["windows"]:
        report = Report([DataDriftPreset()])
        found = report.run(pd.DataFrame(window, columns=names), reference).dict()
        columns = [one for one in found["metrics"] if "column" in one.get("config", {})]
        config = columns[0]["config"]
        method = f"{config['method']}, {config['threshold']}"
        # Of p-values the small ones are drift, of distances the large ones.
        is_p = "p_value" in config["method"]
        flags = [(one["value"] < one["config"]["threshold"]) == is_p for one in columns]
        drifted.append(sum(map(bool, flags)))
    sys.stdout.write(json.dumps({"drifted": drifted, "method": method}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
