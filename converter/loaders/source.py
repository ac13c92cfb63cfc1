# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of a source model, whatever framework made it."""

from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Source(Protocol):
    """A loaded source model; a context manager.

    Attributes:
        name: What to call it in messages.
        framework: ``keras``, ``savedmodel`` or ``litert``.
        toolchain: Package to version, of what reads and exports it.
    """

    name: str
    framework: str
    toolchain: dict[str, str]

    def __enter__(self) -> Self:
        """Return the model."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back what it holds."""
        ...

    def export(self) -> bytes:
        """Return the model as a float32 LiteRT flatbuffer.

        Raises:
            ConvertError: It cannot be one.
        """
        ...

    def infer(self, frames: Float32) -> Float32:
        """Run float32 [n, ...] in the source framework.

        Raises:
            ConvertError: The framework refuses.
        """
        ...
