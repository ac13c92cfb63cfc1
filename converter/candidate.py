# SPDX-License-Identifier: Apache-2.0
"""What a build may try: recipes, the candidates made by them, and who makes them.

Owns the values and the seam ``Quantizer``, one implementation a runtime
(``litert.quantizer``, ``ort.quantizer``). Which candidate is best is ``search``'s and
``choose``'s matter.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from converter.model import FloatModel, Runtime
from converter.tensors import Frames

Scheme = Literal["float32", "float16", "dynamic", "weight-only", "static"]
RangeMethod = Literal["minmax", "p99.99", "p99.9", "mse"]
Dtype = Literal["float32", "float16", "int8"]
_DTYPES: Final[dict[Scheme, Dtype]] = {
    "float32": "float32",
    "float16": "float16",
    "dynamic": "int8",
    "weight-only": "int8",
    "static": "int8",
}


@dataclass(frozen=True)
class Recipe:
    """How a float model becomes a candidate.

    Attributes:
        runtime: For which runtime.
        scheme: ``float16`` and ``weight-only`` store weights small and compute in
            float; ``dynamic`` scales activations while it runs; ``static`` beforehand.
        ranges: How activation ranges are found; only for ``static``.
        per_channel: Weights have a scale a channel, else one a tensor.
        unsigned: Activations are uint8, else int8 (ONNX Runtime: U8S8, S8S8).
        reduce_range: Weights have 7 bits (x86 without VNNI saturates at 8).
        is_equalised: Channels are evened out between layers first.
        is_corrected: Biases take back what rounding shifts in the mean.
        kept_float: Operators that stay float, by the name of their output tensor,
            sorted.
    """

    runtime: Runtime
    scheme: Scheme
    ranges: RangeMethod | None = None
    per_channel: bool = True
    unsigned: bool = False
    reduce_range: bool = False
    is_equalised: bool = False
    is_corrected: bool = False
    kept_float: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The candidate's id in reports and in the bundle.

        >>> Recipe("litert", "static", "p99.99", kept_float=("a", "b")).id
        'litert-static-p99.99-channel-f2'
        """
        parts: list[str] = [self.runtime, self.scheme]
        if self.ranges:
            parts.append(self.ranges)
        if self.scheme in {"dynamic", "weight-only", "static"}:
            parts.append("channel" if self.per_channel else "tensor")
        if self.unsigned:
            parts.append("u8")
        if self.reduce_range:
            parts.append("rr")
        if self.is_equalised:
            parts.append("eq")
        if self.is_corrected:
            parts.append("bc")
        if self.kept_float:
            parts.append(f"f{len(self.kept_float)}")
        return "-".join(parts)

    @property
    def arithmetic(self) -> "Recipe":
        """What decides how long it takes: the recipe without what changes values only.

        >>> Recipe("litert", "static", "mse", is_corrected=True).arithmetic.id
        'litert-static-channel'
        """
        return replace(self, ranges=None, is_equalised=False, is_corrected=False)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A variant to be measured.

    Attributes:
        recipe: How it was made.
        content: The file.
        output_step: The step between two neighbouring outputs where the output is
            dequantized from int8; 0 elsewhere.
        float_operators: Names of the operators that stayed float in a quantized
            candidate, by the name of their output tensor.
    """

    recipe: Recipe
    content: bytes
    output_step: float = 0.0
    float_operators: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its id in reports and in the bundle."""
        return self.recipe.id

    @property
    def runtime(self) -> Runtime:
        """Which runtime runs it."""
        return self.recipe.runtime

    @property
    def dtype(self) -> Dtype:
        """Its arithmetic, as the manifest names it."""
        return _DTYPES[self.recipe.scheme]


@dataclass(frozen=True)
class Part:
    """An operator in a model file.

    Attributes:
        key: What it is called in every variant of a model.
        name: Of its output tensor.
        type: As the file's schema calls it.
        stored_bytes: Of the weights that it stores.
    """

    key: str
    name: str
    type: str
    stored_bytes: int


class Quantizer(Protocol):
    """Makes candidates of one float model for one runtime.

    Attributes:
        model: The float model.
    """

    model: FloatModel

    @property
    def operators(self) -> tuple[str, ...]:
        """Operators that can be quantized, by the name of their output tensor."""

    def recipes(self) -> tuple[Recipe, ...]:
        """Return the global recipes, float32 first, then in the order to try them."""

    def refine(self, recipe: Recipe) -> Recipe | None:
        """Return a recipe that may do better at no cost on a device, if there is one.

        It takes longer to make, so that only the best candidates are refined.
        """

    def calibrate(self, frames: Frames) -> None:
        """Learn activation ranges; memory does not grow with the number of frames.

        Must be called once before a static recipe is made.

        Raises:
            ConvertQuantizeError: An activation is not finite on some frame.
        """

    def make(self, recipe: Recipe) -> Candidate:
        """Return the candidate: the same bytes on every machine.

        Raises:
            ConvertQuantizeError: The recipe cannot be applied to this model.
        """

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        """Return a candidate with the scales and zero points of an earlier variant.

        Args:
            made: By ``make``.
            like: The file of the earlier variant, by the same recipe.

        Raises:
            ConvertQuantizeError: It is of another architecture.
        """


class PlainQuantizer:
    """Makes float candidates only: of models whose runtime has nothing smaller."""

    def __init__(self, model: FloatModel) -> None:
        self.model = model

    @property
    def operators(self) -> tuple[str, ...]:
        """None can be quantized."""
        return ()

    def recipes(self) -> tuple[Recipe, ...]:
        """Return float32."""
        return (Recipe(self.model.runtime, "float32"),)

    def refine(self, recipe: Recipe) -> None:
        """Return None: there is nothing to refine."""

    def calibrate(self, frames: Frames) -> None:
        """Nothing is learned."""

    def make(self, recipe: Recipe) -> Candidate:
        """Return the model itself."""
        return Candidate(recipe, self.model.content)

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        """Return the candidate: float has no grid."""
        del like
        return made
