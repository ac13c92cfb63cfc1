# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as one function from a batch of inputs to outputs.

Owns its options: one thread that does not spin, deterministic kernels, and a set
without graph optimisations as the plain reference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from converter.errors import ConvertModelError
from converter.tensors import Float32

_QUIET: Final = 4
_MAX_REASON: Final = 300
_LEVELS: Final = {
    "optimised": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "plain": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class OnnxEngine:
    """A loaded model.

    Args:
        content: An ONNX model with one float32 input and its outputs.
        kernels: ``optimised`` or ``plain``.
        profile: Where the runtime writes how long each node takes; see
            ``end_profile``.

    Raises:
        ConvertModelError: The runtime refuses the model.
    """

    def __init__(
        self, content: bytes, kernels: str = "optimised", *, profile: Path | None = None
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = _QUIET
        options.graph_optimization_level = _LEVELS[kernels]
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's own tree has no common base
            reason = " ".join(str(error).split())[:_MAX_REASON]
            msg = f"the runtime refuses the model ({kernels}): {reason}"
            raise ConvertModelError(msg, next_step="export the model again") from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [one.name for one in self._session.get_outputs()]

    def infer(self, frame: Float32) -> Float32:
        """Run one ``frame`` (float32, the input's shape with its batch of one)."""
        output: Float32 = self.infer_all(frame)[0]
        return output

    def infer_all(self, frame: Float32) -> Sequence[Any]:
        """Run one ``frame`` and return every output.

        Raises:
            ConvertModelError: The runtime fails on it.
        """
        try:
            found: Sequence[Any] = self._session.run(
                self._outputs, {self._input: frame}
            )
        except Exception as error:  # the runtime's own tree has no common base
            reason = " ".join(str(error).split())[:_MAX_REASON]
            msg = f"the runtime fails on an input: {reason}"
            raise ConvertModelError(msg, next_step="check its shape") from error
        return found

    def end_profile(self) -> Path:
        """Return the file of the profile that was asked for; JSON, a list of events."""
        return Path(self._session.end_profiling())

    def run(self, frames: Float32) -> Float32:
        """Run ``frames`` (float32 [n, ...]) one by one and stack the outputs."""
        return np.concatenate(
            [self.infer(frames[i : i + 1]) for i in range(len(frames))]
        )


def open_engine(content: bytes, kernels: str) -> OnnxEngine:
    """Load a model; see ``runtimes.open_engine``."""
    return OnnxEngine(content, kernels)
