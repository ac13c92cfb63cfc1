# SPDX-License-Identifier: Apache-2.0
"""The subprocess in which one model's memory is measured.

Run as a module with a model file and its input shape; writes one number. Never imported
by the pipeline.
"""

import json
import sys
from pathlib import Path

import numpy as np

from converter.model import RUNTIMES, Runtime
from converter.runtimes import open_engine

_KIB = 1024
_RUNS = 3


def resident_peak_bytes() -> int:
    """Return this process's peak resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIB
    return 0


def main(runtime: Runtime, path: str, shape: str) -> None:
    """Load, run a few times, write the growth in bytes."""
    content = Path(path).read_bytes()
    frame = np.zeros(json.loads(shape), dtype=np.float32)
    before = resident_peak_bytes()
    engine = open_engine(runtime, content)
    for _ in range(_RUNS):
        engine.infer(frame)
    sys.stdout.write(str(resident_peak_bytes() - before))


if __name__ == "__main__":
    name, model, shape_text = sys.argv[1:]
    main(RUNTIMES[RUNTIMES.index(name)], model, shape_text)
