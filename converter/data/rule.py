# SPDX-License-Identifier: Apache-2.0
"""How a model's input is cut from data, scaled and observed: the frame rule."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from converter.errors import ConvertShapeError
from converter.tensors import TensorSpec
from edge_contract import quality

Observe = Literal["series", "vector", "image", "audio", "embedding"]
MAX_VECTOR: Final = 64
_DIMENSIONS: Final[dict[str, int]] = {"vector": 2, "series": 3, "image": 4}
_BY_DIMENSIONS: Final[dict[int, Observe]] = {2: "vector", 3: "series", 4: "image"}


@dataclass(frozen=True)
class FrameRule:
    """How a model's input is cut from data and observed.

    Attributes:
        input: The model's input.
        observe: ``series`` (a channel is a feature, each new time step a row),
            ``vector`` (an element is a feature, an inference is a row), or ``image``,
            ``audio`` and ``embedding`` (what ``edge_contract.quality`` sees).
        hop: New rows a frame; the frame's length when frames do not overlap.
        pre: Steps before the model.
        value_range: Black and white of an image, before these steps.
    """

    input: TensorSpec
    observe: Observe
    hop: int
    pre: tuple[dict[str, str], ...] = ()
    value_range: tuple[str, str] = ("0", "1")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one frame, without the batch."""
        return self.input.shape[1:]

    @property
    def width(self) -> int:
        """How many values a row of the source has."""
        return self.shape[-1] if self.observe == "series" else math.prod(self.shape)

    @property
    def features(self) -> int:
        """How many features are observed."""
        return len(quality.feature_names(self.observe, self.width))

    @property
    def overlaps(self) -> bool:
        """Whether neighbouring frames share rows."""
        return self.observe == "series" and self.hop < self.shape[0]


def frame_rule(
    spec: TensorSpec,
    observe: Observe | None,
    hop: int | None,
    *,
    scale: tuple[str, str] | None = None,
    input_range: tuple[float, float] | None = None,
) -> FrameRule:
    """Return the rule for an input, inferring what is not given.

    Args:
        spec: The model's input.
        observe: What is observed; None infers it from the shape: up to 64 values are a
            ``vector``, more an ``embedding``.
        hop: New rows a frame of a series.
        scale: Factor and offset before the model, as decimal texts.
        input_range: What values lie in after scaling.

    Raises:
        ConvertShapeError: The input cannot be observed so, or the hop does not fit.
    """
    dimensions = len(spec.shape)
    kind = observe or _BY_DIMENSIONS.get(dimensions, "embedding")
    if observe is None and kind == "vector" and spec.shape[1] > MAX_VECTOR:
        kind = "embedding"
    if _DIMENSIONS.get(kind, dimensions) != dimensions:
        wanted = {"series": "[1, T, C]", "vector": "[1, C]", "image": "[1, H, W, C]"}
        msg = f"input {spec.name!r}: expected shape {wanted[kind]} to observe it as"
        msg += f" {kind}, found {list(spec.shape)}"
        raise ConvertShapeError(msg, next_step="pass another --observe")
    length = spec.shape[1] if kind == "series" else 1
    if hop is not None and not 1 <= hop <= length:
        msg = f"--hop: expected 1 to {length} rows (the frame's length), found {hop}"
        raise ConvertShapeError(msg, next_step=f"pass --hop {max(1, length // 2)}")
    pre: tuple[dict[str, str], ...] = ()
    if scale is not None:
        pre = ({"step": "scale", "factor": scale[0], "offset": scale[1]},)
    return FrameRule(
        spec, kind, hop or length, pre, _value_range(kind, scale, input_range)
    )


def _value_range(
    kind: Observe,
    scale: tuple[str, str] | None,
    input_range: tuple[float, float] | None,
) -> tuple[str, str]:
    """Return the declared range as a source delivers it; 0 to 1 where none is."""
    if kind not in {"image", "audio"} or (scale is None and input_range is None):
        return ("0", "1")
    low, high = input_range or (0.0, 1.0)
    factor, offset = (float(one) for one in scale or ("1", "0"))
    ends = sorted(((low - offset) / factor, (high - offset) / factor))
    return (f"{ends[0]:.6g}", f"{ends[1]:.6g}")
