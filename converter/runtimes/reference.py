# SPDX-License-Identifier: Apache-2.0
"""The reference runtime as one function from a batch of inputs to outputs.

What it computes is ``edge_contract.reference_model``, as on a device.
"""

import numpy as np

from converter.errors import ConvertModelError
from converter.tensors import Float32
from edge_contract.errors import ReferenceModelError
from edge_contract.reference_model import ReferenceModel


class ReferenceEngine:
    """A loaded model.

    Raises:
        ConvertModelError: Not a reference model.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._model = ReferenceModel.decode(content)
        except ReferenceModelError as error:
            raise ConvertModelError(
                error.message, next_step="build it again"
            ) from error

    def infer(self, frame: Float32) -> Float32:
        """Run one ``frame`` (float32, the input's shape with its batch of one)."""
        return self._model.infer(frame)

    def run(self, frames: Float32) -> Float32:
        """Run ``frames`` (float32 [n, N]) one by one and stack the outputs."""
        return np.concatenate(
            [self.infer(frames[i : i + 1]) for i in range(len(frames))]
        )


def open_engine(content: bytes, kernels: str) -> ReferenceEngine:
    """Load a model; see ``runtimes.open_engine``."""
    del kernels  # there is one set
    return ReferenceEngine(content)
