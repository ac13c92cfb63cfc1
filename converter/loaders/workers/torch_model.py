# SPDX-License-Identifier: Apache-2.0
"""PyTorch models that ``torch.export`` wrote, in the worker; exported to ONNX.

Owns what PyTorch is asked for. Runs under any Python that has torch and onnxscript;
nothing else of this package is imported. See ``serve``.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from converter.loaders.workers.serve import Refuse

_OPSET = 18  # what the exporter writes by itself; it is lowered later
_MAX_REASON = 300


def load(request: dict[str, Any], refuse: "Refuse") -> "Model":
    """Load the model of a request: ``path``."""
    try:
        import onnxscript
        import torch
    except ImportError as error:
        raise refuse(
            "missing",
            f"reading a PyTorch model needs its extra: {error}",
            "pip install 'edgeloop[torch]', or set EDGE_CONVERT_TORCH_PYTHON to a"
            " Python that has torch and onnxscript",
        ) from error
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    toolchain = {
        "torch": torch.__version__.split("+")[0],
        "onnxscript": onnxscript.__version__,
    }
    try:
        program = torch.export.load(request["path"])
    except Exception as error:  # the library raises many kinds
        raise refuse(
            "model",
            f"torch.export cannot load this file: {_brief(error)}",
            "save it again with the installed version",
        ) from error
    return Model(program, toolchain, refuse)


class Model:
    """An exported program."""

    def __init__(
        self, program: Any, toolchain: dict[str, str], refuse: "Refuse"
    ) -> None:
        self._program, self._refuse = program, refuse
        self._module = program.module()
        self.facts: dict[str, Any] = {"toolchain": toolchain}

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...], one by one; return float32 [n, ...]."""
        import torch

        found = []
        with torch.no_grad():
            for position in range(len(frames)):
                frame = torch.from_numpy(frames[position : position + 1].copy())
                output = self._module(frame)
                while isinstance(output, (dict, list, tuple)):
                    values = output.values() if isinstance(output, dict) else output
                    output = next(iter(values))
                found.append(output.numpy())
        return np.concatenate(found)

    def export(self) -> bytes:
        """Return an ONNX file."""
        import torch

        try:
            exported = torch.onnx.export(
                self._program, dynamo=True, opset_version=_OPSET, verbose=False
            )
            model = exported.model_proto
        except Exception as error:  # the library raises many kinds
            raise self._refuse(
                "operator",
                f"torch.onnx cannot export this model: {_brief(error)}",
                "see which operators torch.onnx supports",
            ) from error
        return bytes(model.SerializeToString(deterministic=True))


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_MAX_REASON]
