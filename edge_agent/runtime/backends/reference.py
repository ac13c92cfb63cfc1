# SPDX-License-Identifier: Apache-2.0
"""Linear models and trees in pure numpy: the runtime that every device has.

Owns the mapping of its errors to ours. What it computes is
``edge_contract.reference_model``.
"""

import numpy as np

from edge_agent.errors import BackendError
from edge_agent.flow import Float32
from edge_contract.errors import ReferenceModelError
from edge_contract.reference_model import FORMAT, ReferenceModel


class ReferenceBackend:
    """A loaded model."""

    def __init__(self, model: ReferenceModel) -> None:
        self._model = model

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, batch first."""
        return (1, self._model.inputs)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, batch first."""
        return (1, self._model.outputs)

    def infer(self, data: Float32) -> Float32:
        """Run the model once; see ``Backend.infer``."""
        if data.shape != self.input_shape:
            msg = f"reference: expected {list(self.input_shape)}"
            raise BackendError(f"{msg}, found {list(data.shape)}")
        with np.errstate(invalid="ignore", over="ignore"):
            return self._model.infer(data)


def load_model(model: bytes, *, threads: int) -> ReferenceBackend:
    """Load a file; see ``BackendModule.load_model``.

    Raises:
        BackendError: Not a reference model.
    """
    del threads
    try:
        return ReferenceBackend(ReferenceModel.decode(model))
    except ReferenceModelError as error:
        msg = f"reference: the model cannot be loaded: {error.message[:300]}"
        raise BackendError(
            msg, next_step="build the bundle with edge-convert"
        ) from error


def runtime_version() -> str:
    """Return the newest file format that this runtime reads."""
    return str(FORMAT)
