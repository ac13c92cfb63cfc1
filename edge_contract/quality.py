# SPDX-License-Identifier: Apache-2.0
"""What is observed of a frame that is too large to be observed value by value.

Owns docs/spec/profile.md, section "Kinds": quality metrics of images and audio, and
seeded projections of anything else. Converter and agent call this one implementation;
bins absorb the last bits in which versions of numpy differ. It keeps no state.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
PROJECTIONS: Final = 8
IMAGE_FEATURES: Final = ("mean", "contrast", "sharpness", "dark", "bright")
AUDIO_FEATURES: Final = (
    "rms",
    "crossings",
    "centroid",
    "flatness",
    *(f"band_{index}" for index in range(8)),
    "clipped",
)
EMBEDDING_FEATURES: Final = (
    *(f"projection_{index}" for index in range(PROJECTIONS)),
    "norm",
)
_LARGEST_SIDE: Final = 56
_EDGE_SHARE: Final = 0.05
_TINY: Final = 1e-12
_LARGEST: Final = float(np.finfo(np.float32).max)
_BANDS: Final = 8
_CLIPPED: Final = 0.999


def feature_names(kind: str, width: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of a kind's observed features.

    Args:
        kind: What a row is; see ``profile.ProfileKind``.
        width: Values of a row, for ``vector`` and ``series``.
        names: Names for these; numbered ones where empty.
    """
    fixed = {
        "image": IMAGE_FEATURES,
        "audio": AUDIO_FEATURES,
        "embedding": EMBEDDING_FEATURES,
    }
    if kind in fixed:
        return fixed[kind]
    return tuple(names) or tuple(f"f{index}" for index in range(width))


def observe(
    kind: str, frames: Float32, value_range: tuple[float, float] = (0.0, 1.0)
) -> Float32:
    """Return the observed features of frames.

    Args:
        kind: ``image``, ``audio``, ``embedding``, or one that is observed as it is.
        frames: float32 [n, ...]: [n, H, W, C] for images.
        value_range: Black and white of an image; full scale of audio is its end.

    Returns:
        float32 [n, F]; NaN where a frame holds values that are not finite.

    Raises:
        StepError: Frames of another number of dimensions.
    """
    if kind == "image":
        return _observe_images(frames, *value_range)
    flat = frames.reshape(len(frames), -1)
    if kind == "audio":
        return _observe_audio(flat, value_range[1])
    if kind == "embedding":
        return project(flat)
    return flat


def project(values: Float32) -> Float32:
    """Return 8 seeded projections and the Euclidean norm of each row.

    Args:
        values: float32 [n, D].

    Returns:
        float32 [n, 9].

    >>> project(np.zeros((1, 3), np.float32)).shape
    (1, 9)
    """
    exact = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        projected = exact @ signs(values.shape[1]).T
        norm = np.sqrt((exact**2).sum(axis=1))
        found = np.column_stack((projected, norm)).clip(-_LARGEST, _LARGEST)
    return _finished((found,), exact)


@lru_cache(maxsize=8)
def signs(width: int) -> Float64:
    """Return the projection matrix, float64 [8, width]: +-1 over sqrt(width).

    The signs are the bits of SHA-256 over a counter, so that every machine and every
    version of numpy has the same matrix (Achlioptas, JCSS 66, 2003).

    >>> float(signs(4)[0, 0]) in {-0.5, 0.5}
    True
    """
    needed = PROJECTIONS * width
    blocks = (needed + 255) // 256
    data = b"".join(
        hashlib.sha256(b"edgeloop-projection" + index.to_bytes(8, "big")).digest()
        for index in range(blocks)
    )
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:needed]
    matrix = (bits.astype(np.float64) * 2 - 1).reshape(PROJECTIONS, width)
    matrix /= np.sqrt(width)
    matrix.setflags(write=False)
    return matrix


def _observe_images(frames: Float32, black: float, white: float) -> Float32:
    if frames.ndim != 4:
        msg = f"images: expected shape [n, H, W, C], found {list(frames.shape)}"
        raise StepError(msg)
    step = max(1, -(-max(frames.shape[1:3]) // _LARGEST_SIDE))
    small = frames[:, ::step, ::step].astype(np.float64).mean(axis=3)
    small = (small - black) / (white - black)
    with np.errstate(invalid="ignore", over="ignore"):
        laplacian = 4 * small[:, 1:-1, 1:-1]
        laplacian = laplacian - small[:, :-2, 1:-1] - small[:, 2:, 1:-1]
        laplacian = laplacian - small[:, 1:-1, :-2] - small[:, 1:-1, 2:]
        flat = small.reshape(len(small), -1)
        edges = laplacian.reshape(len(small), -1)
        sharpness = edges.var(axis=1) if edges.shape[1] else np.zeros(len(small))
        columns = (
            flat.mean(axis=1),
            flat.std(axis=1),
            sharpness,
            (flat <= _EDGE_SHARE).mean(axis=1),
            (flat >= 1 - _EDGE_SHARE).mean(axis=1),
        )
    return _finished(columns, flat)


def _observe_audio(frames: Float32, full_scale: float) -> Float32:
    exact = frames.astype(np.float64) / full_scale
    clean = np.where(np.isfinite(exact), exact, 0.0)
    power = np.abs(np.fft.rfft(clean, axis=1)) ** 2 + _TINY
    bins = np.arange(power.shape[1])
    total = power.sum(axis=1)
    edges = np.linspace(0, power.shape[1], _BANDS + 1).astype(int)
    bands = [
        np.log10(power[:, low:high].sum(axis=1) + _TINY)
        for low, high in pairwise(edges)
    ]
    columns = (
        np.sqrt((clean**2).mean(axis=1)),
        (np.diff(np.signbit(clean), axis=1) != 0).mean(axis=1),
        (power @ bins) / total / max(len(bins) - 1, 1),
        np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1),
        *bands,
        (np.abs(clean) >= _CLIPPED).mean(axis=1),
    )
    return _finished(columns, exact)


def _finished(columns: Sequence[Float64], values: Float64) -> Float32:
    found: Float32 = np.column_stack(columns).astype(np.float32)
    found[~np.isfinite(values).all(axis=1)] = np.nan
    return found
