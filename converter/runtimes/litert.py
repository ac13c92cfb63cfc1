# SPDX-License-Identifier: Apache-2.0
"""The LiteRT interpreter as one function from a batch of inputs to outputs.

Owns the names of the three kernel sets that every artifact is run on. It measures and
judges nothing. One thread always: results of a build must not depend on the host.
"""

import warnings
from enum import Enum

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from converter.errors import ConvertModelError
from converter.tensors import Float32


class Kernels(Enum):
    """A set of kernels of the runtime."""

    XNNPACK = "xnnpack"
    BUILTIN = "builtin"
    REFERENCE = "reference"


_RESOLVERS = {
    Kernels.XNNPACK: OpResolverType.AUTO,
    Kernels.BUILTIN: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    Kernels.REFERENCE: OpResolverType.BUILTIN_REF,
}


class LitertEngine:
    """A loaded model.

    Args:
        content: A LiteRT model with one float32 input and output.
        kernels: Which kernels compute.
        keep_tensors: Keep every intermediate tensor readable (for calibration).

    Raises:
        ConvertModelError: The runtime refuses the model.
    """

    def __init__(
        self,
        content: bytes,
        kernels: Kernels = Kernels.XNNPACK,
        *,
        keep_tensors: bool = False,
    ) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice about keep_tensors' memory
                self._interpreter = Interpreter(
                    model_content=content,
                    num_threads=1,
                    experimental_op_resolver_type=_RESOLVERS[kernels],
                    experimental_preserve_all_tensors=keep_tensors,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            msg = f"the runtime refuses the model on {kernels.value} kernels: {error}"
            raise ConvertModelError(msg, next_step="export the model again") from error
        self._input = int(self._interpreter.get_input_details()[0]["index"])
        self._output = int(self._interpreter.get_output_details()[0]["index"])

    def infer(self, frame: Float32) -> Float32:
        """Run one ``frame`` (float32, the input's shape with its batch of one)."""
        self._interpreter.set_tensor(self._input, frame)
        self._interpreter.invoke()
        output: Float32 = self._interpreter.get_tensor(self._output)
        return output

    def run(self, frames: Float32) -> Float32:
        """Run ``frames`` (float32 [n, ...]) one by one and stack the outputs."""
        return np.concatenate(
            [self.infer(frames[i : i + 1]) for i in range(len(frames))]
        )

    def tensor(self, index: int) -> Float32:
        """Return a copy of a kept tensor."""
        values: Float32 = self._interpreter.get_tensor(index)
        return values


def open_engine(content: bytes, kernels: str) -> LitertEngine:
    """Load a model; see ``runtimes.open_engine``."""
    return LitertEngine(content, Kernels(kernels))
