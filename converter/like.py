# SPDX-License-Identifier: Apache-2.0
"""Building like an earlier bundle: the same recipes, on the same grids.

Owns what ``--like`` means: only the recipes of that bundle's variants are tried, and a
LiteRT candidate takes over its variant's scales and zero points; golden vectors are
computed on the inputs of the earlier ones. So a model that was trained on a little
differs little in bytes, and its update is small. Every gate of a
build holds as ever. Float variants and those of ONNX Runtime have no grid to keep.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from converter.candidate import Candidate, Quantizer, Recipe
from converter.errors import ConvertUsageError
from converter.model import FloatModel
from converter.tensors import Float32, Frames
from edge_contract.bundle import Bundle

_FLOAT: Final = ("float32", "float16")


@dataclass(frozen=True)
class Earlier:
    """What an earlier bundle was made of.

    Attributes:
        recipes: Of its variants.
        contents: Recipe id to the variant's file.
        golden_inputs: float32 [n, ...]: what its golden vectors were computed on.
    """

    recipes: tuple[Recipe, ...]
    contents: Mapping[str, bytes]
    golden_inputs: Float32

    @classmethod
    def read(cls, path: Path) -> "Earlier":
        """Read a bundle that ``edge-convert`` built.

        Raises:
            BundleError: It is no bundle.
            ConvertUsageError: It does not say how its variants were made.
        """
        with Bundle.open(path) as bundle:
            bundle.check_files()
            manifest = bundle.manifest
            contents = {one.id: bundle.read(one.file) for one in manifest.variants}
            golden = bundle.golden.inputs
        try:
            documents: Mapping[str, Any] = manifest.lineage["recipes"]
            recipes = {name: _recipe(one) for name, one in documents.items()}
            files = {recipes[name].id: contents[name] for name in recipes}
        except (KeyError, TypeError, AttributeError) as error:
            raise ConvertUsageError(
                f"--like {path}: expected the recipes of its variants, found none:"
                f" {type(error).__name__}: {error}",
                next_step="name a bundle that edge-convert built",
            ) from error
        return cls(tuple(dict.fromkeys(recipes.values())), files, golden)


class LikeQuantizer:
    """Makes the candidates of an earlier bundle; see ``candidate.Quantizer``.

    Args:
        inner: Makes them as they would be without it.
        earlier: What to be like.
    """

    def __init__(self, inner: Quantizer, earlier: Earlier) -> None:
        self.model: FloatModel = inner.model
        self._inner = inner
        self._earlier = earlier

    @property
    def operators(self) -> tuple[str, ...]:
        """None is turned back to float: that would be another layout."""
        return ()

    def recipes(self) -> tuple[Recipe, ...]:
        """Return float32, then the earlier bundle's recipes of this runtime."""
        first = self._inner.recipes()[0]
        ours = (one for one in self._earlier.recipes if one.runtime == first.runtime)
        return (first, *(one for one in ours if one != first))

    def refine(self, recipe: Recipe) -> None:
        """Return None: the earlier recipe is the one."""

    def calibrate(self, frames: Frames) -> None:
        """Learn activation ranges; see ``Quantizer.calibrate``."""
        self._inner.calibrate(frames)

    def make(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe, on the earlier one's grid."""
        made = self._inner.make(recipe)
        like = self._earlier.contents.get(recipe.id)
        if like is None or recipe.scheme in _FLOAT:
            return made
        return self._inner.freeze(made, like)

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        """Move a candidate onto another grid; see ``Quantizer.freeze``."""
        return self._inner.freeze(made, like)


def _recipe(document: Mapping[str, Any]) -> Recipe:
    fields = {**document, "kept_float": tuple(document["kept_float"])}
    return Recipe(**fields)
