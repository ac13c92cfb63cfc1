# SPDX-License-Identifier: Apache-2.0
"""How a model's input is cut from data, scaled and observed: the frame rule."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Final, Literal

from converter.errors import ConvertShapeError
from converter.tensors import TensorSpec
from edge_contract import quality
from edge_contract.steps import source_shape

Observe = Literal["series", "vector", "image", "audio", "embedding"]
MAX_VECTOR: Final = 64
_DIMENSIONS: Final[dict[str, int]] = {"vector": 1, "series": 2, "image": 3}
_BY_DIMENSIONS: Final[dict[int, Observe]] = {1: "vector", 2: "series", 3: "image"}
_WANTED: Final = {"series": "[T, C]", "vector": "[C]", "image": "[H, W, C]"}


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

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one frame as a source delivers it, without the batch."""
        return source_shape(self.pre, self.input.shape[1:])

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
    pre: tuple[dict[str, str], ...] = (),
    input_range: tuple[float, float] | None = None,
    value_range: tuple[float, float] | None = None,
) -> FrameRule:
    """Return the rule for an input, inferring what is not given.

    Args:
        spec: The model's input.
        observe: What is observed; None infers it: sound before a ``log_mel`` is
            ``audio``, else by the shape, where up to 64 values are a ``vector``, more
            an ``embedding``.
        hop: New rows a frame of a series.
        pre: Steps before the model.
        input_range: What values lie in after these steps.
        value_range: Black and white as a source delivers them; None infers it.

    Raises:
        StepError: The steps are unknown, or do not lead to the model's input.
        ConvertShapeError: The input cannot be observed so, or the hop does not fit.
    """
    shape = source_shape(pre, spec.shape[1:])
    kind = observe or _kind(shape, pre)
    if _DIMENSIONS.get(kind, len(shape)) != len(shape):
        msg = f"input {spec.name!r}: expected frames {_WANTED[kind]} to observe it as"
        msg += f" {kind}, found {list(shape)}"
        raise ConvertShapeError(msg, next_step="pass another --observe")
    length = shape[0] if kind == "series" else 1
    if hop is not None and not 1 <= hop <= length:
        msg = f"--hop: expected 1 to {length} rows (the frame's length), found {hop}"
        raise ConvertShapeError(msg, next_step=f"pass --hop {max(1, length // 2)}")
    ends = ("0", "1")
    if kind in {"image", "audio"}:
        low, high = value_range or _value_range(pre, input_range)
        ends = (f"{low:.6g}", f"{high:.6g}")
    return FrameRule(spec, kind, hop or length, pre, ends)


def _kind(shape: tuple[int, ...], pre: tuple[dict[str, str], ...]) -> Observe:
    if any(one["step"] == "log_mel" for one in pre):
        return "audio"
    if len(shape) == 1 and shape[0] > MAX_VECTOR:
        return "embedding"
    return _BY_DIMENSIONS.get(len(shape), "embedding")


def _value_range(
    pre: tuple[dict[str, str], ...], input_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Return what a source delivers where the first scales give 0 to 1.

    Where no other step changes values, they give ``input_range``, if one is declared.
    """
    changing = [one for one in pre if one["step"] != "resize"]
    scales = list(takewhile(lambda one: one["step"] == "scale", changing))
    ends = (0.0, 1.0)
    if input_range is not None and len(scales) == len(changing):
        ends = input_range
    for one in reversed(scales):
        factor, offset = float(one["factor"]), float(one["offset"])
        low, high = sorted((end - offset) / factor for end in ends)
        ends = (low, high)
    return ends
