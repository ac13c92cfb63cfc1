# SPDX-License-Identifier: Apache-2.0
"""Calibration and validation data: checked, cut into frames and rows, never held whole.

Owns the forms (docs/reference/data-files.md): entries are frames, or rows of a series
that are cut here. Rows of a recording stand together and in order; a frame never spans
two recordings. Inputs are streamed; what belongs beside them (labels, recording, group)
is held, a few bytes an entry.

It does not know what a model computes; see ``lint`` for the rules on what is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from converter.data.entries import BLOCK, Entries
from converter.data.module import ModuleEntries
from converter.data.npz import NpzEntries
from converter.data.rule import FrameRule
from converter.data.table import TableEntries
from converter.errors import ConvertDataError
from converter.tensors import Float32, Frames, Int64
from edge_contract import quality
from edge_contract.steps import Framer, apply_pre

MAX_ROW_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """What is observed: float32 [n, F], and to which recording and group it belongs.

    ``recording`` and ``group`` are int64 [n], or None where the data names none.
    """

    values: Float32
    recording: Int64 | None
    group: Int64 | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data source, ready for use.

    Attributes:
        source: Its name, for messages.
        sha256: Digest of its content.
        frames: Model inputs, after the steps before the model.
        labels: int64 [N] classes or float32 [N, K] targets, or None.
        recording: int64 [N], numbered from 0 in order of appearance.
        feature_names: Names that the source gives, or empty.
        label_names: Names that the source gives, or empty.
    """

    source: str
    sha256: str
    frames: Frames
    labels: Int64 | Float32 | None
    recording: Int64
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    _cutter: "_Cutter"

    def row_blocks(self) -> Iterator[Float32]:
        """Yield the observed rows in order, float32 [n, F], before any step."""
        for rows, _ in self._cutter.rows():
            yield rows

    def rows(self, max_bytes: int = MAX_ROW_BYTES) -> Rows:
        """Return the first observed rows, as many as fit in ``max_bytes``."""
        return self._cutter.held_rows(max_bytes)

    @property
    def clusters(self) -> Int64 | None:
        """Frames of one recording that overlap are not independent: their recording."""
        return self.recording if self._cutter.rule.overlaps else None


def open_dataset(reference: str, rule: FrameRule, *, group: str = "") -> Dataset:
    """Open a data source and check its form.

    Args:
        reference: A path, or ``module:function``.
        rule: How it is cut.
        group: The side array that says what one device sees; ``group`` where empty.

    Raises:
        ConvertDataError: Not a form that we read, or not of the model's shape.
    """
    entries = _open_entries(reference, rule, group)
    cutter = _Cutter(entries, rule, group or "group")
    frames = _CutFrames(cutter)
    return Dataset(
        source=entries.name,
        sha256=entries.sha256,
        frames=frames,
        labels=cutter.labels,
        recording=cutter.frame_recording,
        feature_names=entries.sides.feature_names,
        label_names=entries.sides.label_names,
        _cutter=cutter,
    )


def _open_entries(reference: str, rule: FrameRule, group: str) -> Entries:
    path = Path(reference)
    suffix = path.suffix.lower()
    if suffix in {".npz", ".npy"}:
        return NpzEntries(path, is_scaled=bool(rule.pre), group=group)
    if suffix in {".csv", ".parquet"}:
        return TableEntries(path, group=group)
    if ":" in reference and not path.exists():
        return ModuleEntries(reference)
    msg = f"{reference}: expected .npz, .npy, .csv, .parquet or module:function"
    raise ConvertDataError(msg, next_step="see docs/reference/data-files.md")


class _Cutter:
    """Cuts entries into frames and observed rows."""

    def __init__(self, entries: Entries, rule: FrameRule, group: str) -> None:
        self.entries = entries
        self.rule = rule
        count, name = entries.count, entries.name
        flat = int(np.prod(rule.shape))
        self.are_frames = entries.shape in {rule.shape, (flat,)}
        are_rows = rule.observe == "series" and entries.shape == rule.shape[1:]
        if not (self.are_frames or are_rows):
            _refuse_shape(entries, rule)
        sides = entries.sides.arrays
        self._named = _numbered(sides, "recording", count, name)
        self._group = _numbered(sides, group, count, name)
        self._recording = (
            np.zeros(count, dtype=np.int64) if self._named is None else self._named
        )
        _check_contiguous(self._recording, name)
        ends = self._frame_ends()
        self.frame_recording = self._recording[ends - 1]
        labels = _labels(sides, count, name)
        self.labels = None if labels is None else labels[ends - 1]

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.frame_recording)

    def raw_frames(self) -> Iterator[Float32]:
        """Yield frames before any step, float32 [n, *shape]."""
        if self.are_frames:
            for block in self.entries.blocks():
                yield block.reshape(len(block), *self.rule.shape)
            return
        kept: list[Float32] = []
        framer = Framer(self.rule.shape[0], self.rule.hop)
        for piece, is_start in self._pieces():
            if is_start:
                framer = Framer(self.rule.shape[0], self.rule.hop)
            kept += [one.data for one in framer.push(piece)]
            while len(kept) >= BLOCK:
                yield np.stack(kept[:BLOCK])
                kept = kept[BLOCK:]
        if kept:
            yield np.stack(kept)

    def rows(self) -> Iterator[tuple[Float32, Int64]]:
        """Yield observed rows with the entry that each belongs to."""
        start = 0
        for block in self.entries.blocks():
            positions = np.arange(start, start + len(block))
            start += len(block)
            if not self.are_frames:
                yield block, positions
            elif self.rule.observe == "series":
                yield self._new_rows(block, positions)
            else:
                yield self._observed(block), positions

    def held_rows(self, max_bytes: int) -> Rows:
        """Return the first rows that fit."""
        limit = max(1, max_bytes // (4 * self.rule.features))
        values: list[Float32] = []
        owners: list[Int64] = []
        held = 0
        for block, positions in self.rows():
            values.append(block[: limit - held])
            owners.append(positions[: limit - held])
            held += len(values[-1])
            if held >= limit:
                break
        owner = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, self.rule.features), dtype=np.float32)
        return Rows(
            np.concatenate(values) if values else empty,
            None if self._named is None else self._named[owner],
            None if self._group is None else self._group[owner],
        )

    def _observed(self, block: Float32) -> Float32:
        frames = block.reshape(len(block), *self.rule.shape)
        low, high = (float(one) for one in self.rule.value_range)
        return quality.observe(self.rule.observe, frames, (low, high))

    def _new_rows(self, block: Float32, positions: Int64) -> tuple[Float32, Int64]:
        """Return each new row once: a recording's first frame, then each hop."""
        length = self.rule.shape[0]
        frames = block.reshape(len(block), *self.rule.shape)
        before = self._recording[np.maximum(positions - 1, 0)]
        is_first = (positions == 0) | (self._recording[positions] != before)
        if self._named is None:
            is_first = positions == 0
        news = np.where(is_first, length, self.rule.hop)
        rows = [one[length - new :] for one, new in zip(frames, news, strict=True)]
        return np.concatenate(rows), np.repeat(positions, news)

    def _frame_ends(self) -> Int64:
        """Return the entry behind each frame's last one."""
        if self.are_frames:
            return np.arange(1, self.entries.count + 1)
        length, hop = self.rule.shape[0], self.rule.hop
        changes = np.flatnonzero(np.diff(self._recording)) + 1
        starts = np.concatenate(([0], changes))
        stops = np.concatenate((changes, [self.entries.count]))
        ends = [
            np.arange(start + length, stop + 1, hop)
            for start, stop in zip(starts, stops, strict=True)
        ]
        return np.concatenate(ends).astype(np.int64)

    def _pieces(self) -> Iterator[tuple[Float32, bool]]:
        """Yield runs of rows of one recording, and whether one starts with it."""
        start, before = 0, -1
        for block in self.entries.blocks():
            owners = self._recording[start : start + len(block)]
            start += len(block)
            cuts = np.flatnonzero(np.diff(owners)) + 1
            for piece, owner in zip(
                np.split(block, cuts), owners[np.concatenate(([0], cuts))], strict=True
            ):
                yield piece, owner != before
                before = int(owner)


class _CutFrames:
    """Model inputs; see ``tensors.Frames``."""

    def __init__(self, cutter: _Cutter) -> None:
        self._cutter = cutter

    def __len__(self) -> int:
        return self._cutter.count

    def __iter__(self) -> Iterator[Float32]:
        for block in self._cutter.raw_frames():
            given = apply_pre(self._cutter.rule.pre, block)
            yield given.reshape(len(block), *self._cutter.rule.input.shape[1:])

    def take(self, positions: Int64) -> Float32:
        """Return the frames at ``positions``, in one pass."""
        found, start = [], 0
        for block in self:
            inside = (positions >= start) & (positions < start + len(block))
            if inside.any():
                found.append(block[positions[inside] - start])
            start += len(block)
        return np.concatenate(found)


def _refuse_shape(entries: Entries, rule: FrameRule) -> None:
    wanted = f"[n, {', '.join(map(str, rule.shape))}]"
    if rule.observe == "series":
        wanted += f" or [n, {rule.shape[-1]}]"
    found = [entries.count, *entries.shape]
    msg = f"{entries.name}: x: expected shape {wanted}, found {found}"
    raise ConvertDataError(msg, next_step="use the inputs that the model takes")


def _numbered(
    arrays: dict[str, np.ndarray], key: str, count: int, name: str
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
    arrays: dict[str, np.ndarray], count: int, name: str
) -> Int64 | Float32 | None:
    if "y" not in arrays:
        return None
    values = arrays["y"]
    if values.shape == (count,) and values.dtype.kind in "iu":
        return values.astype(np.int64)
    is_target = values.shape[:1] == (count,) and values.dtype.kind == "f"
    if not is_target or not np.isfinite(values).all():
        msg = f"{name}: y: expected {count} integers, or finite targets"
        msg += f", found {values.dtype} {list(values.shape)}"
        step = "give one label for each entry of x"
        if values.dtype.kind in "US":
            step = "store the number of the class; names go to --labels"
        raise ConvertDataError(msg, next_step=step)
    return values.reshape(count, -1).astype(np.float32)


def _check_contiguous(recording: Int64, name: str) -> None:
    changes = int((np.diff(recording) != 0).sum())
    if changes + 1 != len(np.unique(recording)) and len(recording):
        msg = f"{name}: recording: expected the rows of each recording together"
        raise ConvertDataError(msg, next_step="sort by recording, keeping their order")
