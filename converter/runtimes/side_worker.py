# SPDX-License-Identifier: Apache-2.0
"""Runs ``model.tflite`` on ``inputs.npy`` of a folder; leaves ``outputs.npy`` there.

Run by its path under another interpreter; imports nothing of this package.
"""

import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> int:
    """Run every frame; 0 done, 3 with the runtime's reason on standard error."""
    from tflite_runtime.interpreter import Interpreter

    frames = np.load(folder / "inputs.npy", allow_pickle=False)
    try:
        interpreter = Interpreter(str(folder / "model.tflite"), num_threads=1)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]["index"]
        found = interpreter.get_output_details()[0]["index"]
        outputs = []
        for position in range(len(frames)):
            interpreter.set_tensor(given, frames[position : position + 1])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(found))
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 3
    np.save(folder / "outputs.npy", np.concatenate(outputs), allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
