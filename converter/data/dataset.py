# SPDX-License-Identifier: Apache-2.0
"""Calibration and validation data: read, checked, cut into frames and rows.

Owns the ``.npz`` form (docs/reference/data-files.md): ``x`` float32, either rows
[n, C] or frames [N, ...]; optional ``y`` integer labels, ``recording`` and ``group``
(one entry a row or frame), ``features`` and ``labels`` (names). Rows of a recording
stand together and in order; a frame never spans two recordings.

It does not know what a model computes; see ``lint`` for the rules on what is enough.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConvertDataError, ConvertShapeError
from converter.tensors import TensorSpec
from edge_contract.canonical import sha256_hex
from edge_contract.steps import Framer

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Observe = Literal["series", "vector"]
_VECTOR_DIMENSIONS = 2
_SERIES_DIMENSIONS = 3


@dataclass(frozen=True)
class FrameRule:
    """How a model's input is cut from data and observed.

    Attributes:
        input: The model's input.
        observe: ``series`` (a channel is a feature, each new time step a row) or
            ``vector`` (an element is a feature, an inference is a row).
        hop: New rows a frame; the frame's length when frames do not overlap.
    """

    input: TensorSpec
    observe: Observe
    hop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one frame, without the batch."""
        return self.input.shape[1:]

    @property
    def features(self) -> int:
        """How many features are observed."""
        series = self.observe == "series"
        return self.shape[-1] if series else int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Rows:
    """What is observed: float32 [n, F], and to which recording and group it belongs.

    ``recording`` and ``group`` are int64 [n], or None where the file names none.
    """

    values: Float32
    recording: Int64 | None
    group: Int64 | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data file, ready for use.

    Attributes:
        source: The file's name, for messages.
        sha256: Digest of the file.
        frames: float32 [N, *frame shape].
        labels: int64 [N], or None when the file holds none.
        recording: int64 [N], numbered from 0 in order of appearance.
        rows: The rows that are observed.
        feature_names: Names that the file gives, or empty.
        label_names: Names that the file gives, or empty.
    """

    source: str
    sha256: str
    frames: Float32
    labels: Int64 | None
    recording: Int64
    rows: Rows
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]


def frame_rule(spec: TensorSpec, observe: Observe | None, hop: int | None) -> FrameRule:
    """Return the rule for an input, inferring what is not given.

    Raises:
        ConvertShapeError: The input cannot be observed so, or the hop does not fit.
    """
    dimensions = len(spec.shape)
    if dimensions not in {_VECTOR_DIMENSIONS, _SERIES_DIMENSIONS}:
        msg = f"input {spec.name!r}: expected shape [1, C] or [1, T, C]"
        msg += f", found {list(spec.shape)}"
        raise ConvertShapeError(msg, next_step="images and audio cannot be built yet")
    kind = observe or ("series" if dimensions == _SERIES_DIMENSIONS else "vector")
    if kind == "series" and dimensions != _SERIES_DIMENSIONS:
        msg = f"input {spec.name!r}: a series needs shape [1, T, C]"
        msg += f", found {list(spec.shape)}"
        raise ConvertShapeError(msg, next_step="pass --observe vector")
    length = spec.shape[1] if kind == "series" else 1
    if hop is not None and not 1 <= hop <= length:
        msg = f"--hop: expected 1 to {length} rows (the frame's length), found {hop}"
        raise ConvertShapeError(msg, next_step=f"pass --hop {max(1, length // 2)}")
    return FrameRule(spec, kind, hop or length)


def load_dataset(path: Path, rule: FrameRule) -> Dataset:
    """Read a data file and cut it by ``rule``.

    Raises:
        ConvertDataError: Not an ``.npz`` file of our form, or not of the model's shape.
    """
    arrays, digest = _read_arrays(path)
    name = path.name
    values = _values(arrays, name, rule)
    count = len(values)
    named = _numbered(arrays, "recording", count, name)
    group = _numbered(arrays, "group", count, name)
    labels = _labels(arrays, count, name)
    recording = np.zeros(count, dtype=np.int64) if named is None else named
    _check_contiguous(recording, name)
    are_rows = values.ndim == len(rule.shape)
    if are_rows and rule.observe == "series":
        rows = Rows(values, named, group)
        ends, recording = _frame_ends(recording, rule)
        frames = _cut(values, ends, rule)
        labels = None if labels is None else labels[ends - 1]
    else:
        frames = values
        rows = _rows_of_frames(frames, named, group, rule)
    return Dataset(
        source=name,
        sha256=digest,
        frames=np.ascontiguousarray(frames),
        labels=labels,
        recording=recording,
        rows=rows,
        feature_names=_names(arrays, "features"),
        label_names=_names(arrays, "labels"),
    )


def _read_arrays(path: Path) -> tuple[dict[str, NDArray[np.generic]], str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ConvertDataError(msg, next_step="check the path") from error
    try:
        stored = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            msg = f"{path.name}: expected an .npz file, found a single array"
            raise ConvertDataError(msg, next_step="write it with numpy.savez")
        with stored:
            arrays = {key: stored[key] for key in stored.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path.name}: expected an .npz file without objects, found: {error}"
        raise ConvertDataError(msg, next_step="write it with numpy.savez") from error
    return arrays, sha256_hex(content)


def _values(
    arrays: dict[str, NDArray[np.generic]], name: str, rule: FrameRule
) -> Float32:
    if "x" not in arrays:
        msg = f"{name}: expected an array 'x', found {sorted(arrays) or 'none'}"
        raise ConvertDataError(msg, next_step="name the inputs 'x'")
    values = arrays["x"]
    if values.dtype != np.float32:
        msg = f"{name}: x: expected dtype float32, found {values.dtype}"
        raise ConvertDataError(msg, next_step="store x.astype(numpy.float32)")
    frames = values.shape[1:] == rule.shape
    rows = rule.observe == "series" and values.shape[1:] == rule.shape[1:]
    if not (frames or rows):
        wanted = f"[n, {', '.join(map(str, rule.shape))}]"
        if rule.observe == "series":
            wanted += f" or [n, {rule.shape[-1]}]"
        msg = f"{name}: x: expected shape {wanted}, found {list(values.shape)}"
        raise ConvertDataError(msg, next_step="use the inputs that the model takes")
    finite = np.isfinite(values)
    if not finite.all():
        where = np.argwhere(~finite)[0].tolist()
        msg = f"{name}: x: expected finite numbers, found {int((~finite).sum())}"
        msg += f" NaN or infinite, the first at {where}"
        raise ConvertDataError(msg, next_step="drop or repair these rows")
    return np.ascontiguousarray(values, dtype=np.float32)


def _numbered(
    arrays: dict[str, NDArray[np.generic]], key: str, count: int, name: str
) -> Int64 | None:
    if key not in arrays:
        return None
    values = arrays[key]
    if values.shape != (count,) or values.dtype.kind not in "iuUS":
        msg = f"{name}: {key}: expected {count} integers or texts"
        msg += f", found {values.dtype} {list(values.shape)}"
        raise ConvertDataError(msg, next_step=f"give one {key} for each entry of x")
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[codes].astype(np.int64)


def _labels(
    arrays: dict[str, NDArray[np.generic]], count: int, name: str
) -> Int64 | None:
    if "y" not in arrays:
        return None
    values = arrays["y"]
    if values.shape != (count,) or values.dtype.kind not in "iu":
        msg = f"{name}: y: expected {count} integers"
        msg += f", found {values.dtype} {list(values.shape)}"
        raise ConvertDataError(msg, next_step="give one label for each entry of x")
    return values.astype(np.int64)


def _check_contiguous(recording: Int64, name: str) -> None:
    changes = int((np.diff(recording) != 0).sum())
    if changes + 1 != len(np.unique(recording)) and len(recording):
        msg = f"{name}: recording: expected the rows of each recording together"
        raise ConvertDataError(msg, next_step="sort by recording, keeping their order")


def _frame_ends(recording: Int64, rule: FrameRule) -> tuple[Int64, Int64]:
    """Return where frames end (exclusive, in rows) and their recordings."""
    length, ends, owners = rule.shape[0], [], []
    for one in np.unique(recording):
        inside = np.flatnonzero(recording == one)
        framer = Framer(length, rule.hop)
        for frame in framer.push(np.zeros((len(inside), 1), dtype=np.float32)):
            ends.append(int(inside[0]) + frame.end_row)
            owners.append(int(one))
    return np.array(ends, dtype=np.int64), np.array(owners, dtype=np.int64)


def _cut(values: Float32, ends: Int64, rule: FrameRule) -> Float32:
    length = rule.shape[0]
    if not len(ends):
        return np.empty((0, *rule.shape), dtype=np.float32)
    return np.stack([values[end - length : end] for end in ends])


def _rows_of_frames(
    frames: Float32, recording: Int64 | None, group: Int64 | None, rule: FrameRule
) -> Rows:
    """Return each new row once: a recording's first frame, then each frame's hop."""
    if rule.observe == "vector":
        return Rows(frames.reshape(len(frames), -1), recording, group)
    length = rule.shape[0]
    news = np.full(len(frames), rule.hop)
    first = np.zeros(len(frames), dtype=bool)
    first[:1] = True
    if recording is not None:
        first[1:] = np.diff(recording) != 0
    news[first] = length
    values = [frame[length - new :] for frame, new in zip(frames, news, strict=True)]
    empty = [np.empty((0, rule.features), dtype=np.float32)]
    return Rows(
        np.concatenate(values or empty),
        None if recording is None else np.repeat(recording, news),
        None if group is None else np.repeat(group, news),
    )


def _names(arrays: dict[str, NDArray[np.generic]], key: str) -> tuple[str, ...]:
    return tuple(str(one) for one in arrays[key]) if key in arrays else ()
