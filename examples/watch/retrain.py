# SPDX-License-Identifier: Apache-2.0
"""The retrain hook of the fleet: labelled samples in, a better model out.

Owns: the run folder's side of a retraining. Works in the folder that the server made
for the run: reads `context.json` and `samples/*.npz` there, and leaves
`model.keras`, `calibration.npz`, `validation.npz` and `evaluation.json`.
Does not own: which recordings are added (`material`), how to train (`train`), or
anything about publishing the result.

Run: `python -m examples.watch.retrain` with the run folder as the working directory.
"""

from __future__ import annotations

import json
from pathlib import Path

from examples.watch import data
from examples.watch.material import material_with
from examples.watch.train import train


def main() -> int:
    """Retrain in the current folder; print the evaluation as JSON."""
    folder = Path.cwd()
    context = json.loads((folder / "context.json").read_text(encoding="utf-8"))
    files = sorted((folder / "samples").glob("**/*.npz"))
    samples = [recording for file in files for recording in data.read_rows(file)]
    if not samples:
        message = (
            f"{folder.name}/samples: expected labelled samples of drifted devices, "
            f"found none for {json.dumps(context, sort_keys=True)}. "
            "Next: `edge-fleet sample list`"
        )
        raise SystemExit(message)
    material = material_with(data.load_recordings(), samples)
    print(json.dumps(train(material, folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
