# SPDX-License-Identifier: Apache-2.0
"""What data must satisfy before a build relies on it.

Owns the smallest counts, the refusals and the warnings, each with what to do about it.
One pass over the frames; of each a digest of 8 bytes is kept, nothing else.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.data.dataset import Dataset
from converter.data.rule import FrameRule
from converter.errors import ConvertDataError
from converter.tensors import Float32

MIN_FRAMES: Final = 16
FEW_FRAMES: Final = 100
_DIGEST_BYTES: Final = 8
_PIXEL_LEVELS: Final = 255.0
_SLACK: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over a data set found.

    Attributes:
        digests: Of each frame.
        low: Smallest value of the model's inputs.
        high: Largest value of the model's inputs.
        are_whole: Whether every value is a whole number.
    """

    digests: tuple[bytes, ...]
    low: float
    high: float
    are_whole: bool


def survey(data: Dataset) -> Survey:
    """Read a data set once.

    Raises:
        ConvertDataError: It cannot be read, or holds values that are not finite.
    """
    digests: list[bytes] = []
    low, high, whole = np.inf, -np.inf, True
    for block in data.frames:
        digests += [_digest(one) for one in block]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        whole = whole and bool((block == np.rint(block)).all())
    return Survey(tuple(digests), low, high, whole)


def _digest(frame: Float32) -> bytes:
    data = np.ascontiguousarray(frame).tobytes()
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def check_count(data: Dataset, use: str) -> None:
    """Refuse data with too few frames.

    Raises:
        ConvertDataError: Fewer than ``MIN_FRAMES`` frames.
    """
    if len(data.frames) < MIN_FRAMES:
        msg = f"{data.source}: {use} needs at least {MIN_FRAMES} frames"
        msg += f", found {len(data.frames)}"
        raise ConvertDataError(msg, next_step="collect more data")


def check_labels(data: Dataset, classes: int) -> None:
    """Refuse labels that the model has no output for.

    Raises:
        ConvertDataError: A label outside 0 .. ``classes`` - 1, or targets of a
            classifier.
    """
    if data.labels is None or not classes:
        return
    if data.labels.dtype.kind != "i":
        msg = f"{data.source}: y: expected class numbers, found {data.labels.dtype}"
        raise ConvertDataError(msg, next_step="give integers, or --task regression")
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        msg = f"{data.source}: y: expected labels 0 to {classes - 1}"
        msg += f" (the model's outputs), found {low} to {high}"
        raise ConvertDataError(msg, next_step="map the labels as in training")


def check_range(
    data: Dataset,
    found: Survey,
    rule: FrameRule,
    input_range: tuple[float, float] | None,
) -> None:
    """Refuse inputs that contradict what is declared about them.

    Raises:
        ConvertDataError: Outside of ``input_range``, or scaled twice.
    """
    if input_range is not None:
        low, high = input_range
        slack = _SLACK * (high - low)
        if found.low < low - slack or found.high > high + slack:
            msg = f"{data.source}: expected inputs from {low:g} to {high:g}"
            msg += f" (--input-range), found {found.low:g} to {found.high:g}"
            raise ConvertDataError(msg, next_step="scale them as in training: --scale")
    factor = _lone_factor(rule)
    if factor <= 1 / 100 and found.high - found.low <= 2 * factor:
        msg = f"{data.source}: --scale {factor:.3g} is declared, but the data"
        msg += f" spans only {(found.high - found.low) / factor:.3g} before it"
        raise ConvertDataError(
            msg, next_step="it is scaled already: leave --scale out, or give raw values"
        )


def _lone_factor(rule: FrameRule) -> float:
    """Return what values are multiplied by; 1 where another step changes them too."""
    changing = [one for one in rule.pre if one["step"] != "resize"]
    is_lone = len(changing) == 1 and changing[0]["step"] == "scale"
    return abs(float(changing[0]["factor"])) if is_lone else 1.0


def warnings_of(
    calibration: Dataset,
    validation: Dataset,
    surveys: tuple[Survey, Survey],
    rule: FrameRule,
    classes: int,
) -> tuple[str, ...]:
    """Return what is odd but not wrong, one sentence each with what to do.

    Args:
        calibration: Calibration data.
        validation: Validation data, or the same.
        surveys: Of the two.
        rule: How they are cut.
        classes: How many the model has; 0 where it is no classifier.
    """
    first, second = surveys
    name = calibration.source
    found: list[str] = []
    if len(calibration.frames) < FEW_FRAMES:
        found.append(
            f"{name}: {len(calibration.frames)} frames are few;"
            f" ranges and bins want {FEW_FRAMES} or more"
        )
    duplicates = len(first.digests) - len(set(first.digests))
    if duplicates:
        found.append(f"{name}: {duplicates} duplicate frames; drop them")
    looks_raw = first.are_whole and 2 < first.high <= _PIXEL_LEVELS and first.low >= 0
    if rule.observe == "image" and not rule.pre and looks_raw:
        found.append(
            f"{name}: inputs from {first.low:g} to {first.high:g} look like raw pixels;"
            " if training scaled them, pass --scale"
        )
    found += _overlap(calibration, validation, surveys)
    if validation.labels is not None and classes:
        missing = classes - len(set(validation.labels.tolist()))
        if missing:
            found.append(
                f"{validation.source}: {missing} classes have no frame;"
                " their accuracy is unknown"
            )
    wide = second.high > first.high or second.low < first.low
    span = max(first.high - first.low, 1e-12)
    beyond = max(second.high - first.high, first.low - second.low) / span
    if wide and beyond > 0.1:
        found.append(
            f"{validation.source}: inputs reach {beyond:.0%} beyond the calibration"
            " range; calibrate on data like it"
        )
    return tuple(found)


def warn_constant(source: str, features: tuple[str, ...], rows: Float32) -> list[str]:
    """Return a warning where observed features never change."""
    lows, highs = rows.min(axis=0), rows.max(axis=0)
    constant = [
        name
        for name, low, high in zip(features, lows, highs, strict=True)
        if low == high
    ]
    if not constant:
        return []
    return [f"{source}: never changes: {', '.join(constant)}; is the sensor alive?"]


def _overlap(
    calibration: Dataset, validation: Dataset, surveys: tuple[Survey, Survey]
) -> list[str]:
    if validation.sha256 == calibration.sha256:
        msg = "validation is the calibration data itself; keep some apart"
        return [f"{validation.source}: {msg}"]
    seen = set(surveys[0].digests)
    shared = sum(one in seen for one in surveys[1].digests)
    if not shared:
        return []
    return [f"{validation.source}: {shared} frames are in calibration too; drop them"]
