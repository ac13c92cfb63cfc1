# SPDX-License-Identifier: Apache-2.0
"""What whylogs costs a row, by its row API and by its pandas path, and in bytes."""

import json
import sys
import time

import numpy as np
import pandas as pd
from whylogs.core import DatasetProfile

_ROUNDS, _ROWS_BY_ONE = 7, 2000


def main(path: str) -> None:
    """Measure rows float32 [n, F] of an ``.npy`` file."""
    rows = np.load(path)
    names = [f"f{index}" for index in range(rows.shape[1])]
    frame = pd.DataFrame(rows, columns=names)
    some = [
        dict(zip(names, map(float, row), strict=True)) for row in rows[:_ROWS_BY_ONE]
    ]
    by_row, by_frame = [], []
    for _ in range(_ROUNDS):
        profile = DatasetProfile()
        start = time.perf_counter()
        for row in some:
            profile.track(row)
        by_row.append((time.perf_counter() - start) / len(some) * 1e6)
        profile = DatasetProfile()
        start = time.perf_counter()
        profile.track(frame)
        by_frame.append((time.perf_counter() - start) / len(rows) * 1e6)
    sizes = {}
    for count in (300, len(rows)):
        profile = DatasetProfile()
        profile.track(frame[:count])
        sizes[str(count)] = len(profile.view().serialize())
    found = {"row_us": by_row, "frame_us": by_frame, "bytes": sizes}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
