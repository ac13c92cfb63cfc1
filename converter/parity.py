# SPDX-License-Identifier: Apache-2.0
"""The gate between the source model and its float artifact.

Owns the inputs (at least 64: frames and edge cases), the 80 dB bound, and the rule that
nothing may be NaN or infinite. Conversions drop biases and quantize weights silently
(research on the MLPerf Tiny references found both); nothing is built on one that does.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.errors import ConvertParityError
from converter.loaders import Source
from converter.model import FloatModel
from converter.runtimes import open_engine
from converter.tensors import Float32, Frames
from edge_contract.golden import signal_to_noise_db
from edge_contract.steps import apply_post

MIN_INPUTS: Final = 64
MIN_SQNR_DB: Final = 80.0
_SCALES = (0.5, 0.9, 1.1, 1.5)


@dataclass(frozen=True)
class Parity:
    """How closely the float artifact follows its source."""

    inputs: int
    sqnr_db: float


def parity_inputs(frames: Frames) -> Float32:
    """Return at least 64 inputs: edge cases, frames, and scaled frames."""
    positions = np.unique(np.linspace(0, len(frames) - 1, MIN_INPUTS).astype(np.int64))
    picked = np.unique(frames.take(positions), axis=0)
    edges = edge_frames(frames)
    parts = [edges, picked]
    for scale in _SCALES:
        if sum(map(len, parts)) >= MIN_INPUTS:
            break
        parts.append((picked * np.float32(scale)).astype(np.float32))
    return np.concatenate(parts)


def edge_frames(frames: Frames) -> Float32:
    """Return zeros and, element by element, the smallest and largest of ``frames``."""
    ends = [(block.min(axis=0), block.max(axis=0)) for block in frames]
    low = np.min([one for one, _ in ends], axis=0)
    high = np.max([one for _, one in ends], axis=0)
    return np.stack([np.zeros_like(low), low, high])


def check_parity(source: Source, model: FloatModel, frames: Frames) -> Parity:
    """Compare source and artifact.

    Raises:
        ConvertParityError: Less than 80 dB, other shapes, or anything not finite.
    """
    inputs = parity_inputs(frames)
    expected = source.infer(inputs)
    found = open_engine(model.runtime, model.content).run(inputs)
    for step in model.post:
        found = apply_post(({"step": step},), found)
    if expected.shape != found.shape:
        msg = f"{source.name}: the source gives outputs {list(expected.shape)}"
        msg += f", the float artifact {list(found.shape)}"
        raise ConvertParityError(msg, next_step="export a model with one output")
    for outputs, whose in ((expected, "the source"), (found, "the float artifact")):
        bad = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        if bad.any():
            msg = f"{source.name}: {whose} gives NaN or infinity on"
            msg += f" {int(bad.sum())} of {len(inputs)} inputs"
            raise ConvertParityError(msg, next_step="check the model on its own data")
    sqnr_db = signal_to_noise_db(expected, found)
    if sqnr_db < MIN_SQNR_DB:
        msg = f"{source.name}: expected the float artifact within {MIN_SQNR_DB:g} dB"
        msg += f" of the source, found {sqnr_db:.1f} dB on {len(inputs)} inputs"
        raise ConvertParityError(
            msg, next_step="look for layers that export differently"
        )
    return Parity(len(inputs), sqnr_db)
