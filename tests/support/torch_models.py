# SPDX-License-Identifier: Apache-2.0
"""PyTorch models for tests, made under an interpreter that has PyTorch.

PyTorch is in no pinned set (its files differ by machine), so it gets an environment of
its own, in the folder where tflite-runtime has one; made once, kept. Run by path with a
folder: writes the models and what they compute.
"""

import fcntl
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

PACKAGES = ("torch==2.13.0", "onnxscript==0.7.2", "onnx>=1.20", "numpy>=2")
_INSTALL_SECONDS = 900


def find_python() -> Path | str:
    """The interpreter, or why there is none."""
    from converter.config import cache_folder

    folder = cache_folder() / "torch-2.13.0"
    ready = folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not ready.is_file():
            reason = _install(folder)
            if reason:
                return reason
            ready.write_text(json.dumps(PACKAGES))
    return folder / "bin" / "python"


def _install(folder: Path) -> str:
    try:
        venv.create(folder, with_pip=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", *PACKAGES],
            capture_output=True,
            check=True,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"PyTorch cannot be installed beside: {error}"
    return ""


def make_models(python: Path, folder: Path) -> None:
    """Write the models and their answers into ``folder``."""
    subprocess.run(
        [python, __file__, str(folder)],
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251
    )


def main(folder: Path) -> None:
    """Export the models, and save inputs and outputs."""
    import numpy as np
    import torch
    from torch import nn

    torch.manual_seed(1)

    class Pictures(nn.Module):  # type: ignore[misc]
        """Takes [H, W, C], as a camera gives it."""

        def __init__(self, *end: Any) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1, groups=8),
                nn.ReLU6(),
                nn.MaxPool2d(2),
                *end,
                nn.Softmax(1),
            )

        def forward(self, x: Any) -> Any:
            """Return class probabilities."""
            return self.body(x.permute(0, 3, 1, 2))

    class Windows(nn.Module):  # type: ignore[misc]
        """Takes a series [T, C]; an operator of its own kind at the end."""

        def __init__(self, *, ends_in_erf: bool) -> None:
            super().__init__()
            self.ends_in_erf = ends_in_erf
            self.conv = nn.Conv1d(3, 6, 3, padding=1)
            self.dense = nn.Linear(6, 2)

        def forward(self, x: Any) -> Any:
            """Return two values."""
            found = torch.relu(self.conv(x.permute(0, 2, 1))).mean(2)
            found = self.dense(found)
            return torch.erf(found) if self.ends_in_erf else found

    models: dict[str, tuple[Any, tuple[int, ...]]] = {
        "pictures": (Pictures(nn.Flatten(), nn.Linear(128, 4)), (16, 16, 3)),
        "pooled": (
            Pictures(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
            (16, 16, 3),
        ),
        "windows": (Windows(ends_in_erf=False), (12, 3)),
        "erf": (Windows(ends_in_erf=True), (12, 3)),
    }
    for name, (model, shape) in models.items():
        model.eval()
        inputs = torch.randn(80, *shape)
        program = torch.export.export(model, (inputs[:1],))
        torch.export.save(program, folder / f"{name}.pt2")
        with torch.no_grad():
            outputs = model(inputs)
        np.savez(folder / f"{name}.npz", x=inputs.numpy(), expected=outputs.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
