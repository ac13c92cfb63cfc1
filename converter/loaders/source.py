# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of a source model, whatever framework made it."""

from types import TracebackType
from typing import Protocol, Self

from converter.model import Runtime
from converter.tensors import Float32


class Source(Protocol):
    """A loaded source model; a context manager.

    Attributes:
        name: What to call it in messages.
        framework: What made it.
        toolchain: Package to version, of what reads and exports it.
        labels: Names of the classes where the model knows them, else empty.
        features: Names of the inputs where the model knows them, else empty.
    """

    name: str
    framework: str
    toolchain: dict[str, str]
    labels: tuple[str, ...]
    features: tuple[str, ...]

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

    def why_not(self, runtime: Runtime) -> str:
        """Return why it does not reach a runtime; empty where it does.

        Raises:
            ConvertError: It reaches none.
        """
        ...

    def export(self, runtime: Runtime) -> bytes:
        """Return the float model as a file for a runtime, not in its normal form yet.

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
