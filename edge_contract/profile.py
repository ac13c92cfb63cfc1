# SPDX-License-Identifier: Apache-2.0
"""The reference profile: what a model saw when it was built, as counts over bins.

Owns docs/spec/profile.md and the layout of a window's count vector. The profile
travels inside the bundle; ``ref_id`` (the first 8 bytes of its SHA-256) binds counts to
it. It decides nothing; see ``fleet.drift``.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np

from edge_contract.binning import BINS, BinTable, Float32, Float64, Int64
from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import CanonicalError, ProfileError, WindowError
from edge_contract.quality import EMBEDDING_FEATURES, project
from edge_contract.varint import decode_counts, encode_counts

ProfileKind = Literal["vector", "series", "image", "audio", "embedding"]
CONFIDENCE_BINS: Final = 16
MARGIN_BINS: Final = 8
MAX_PROFILE_BYTES: Final = 256 * 1024
MAX_FEATURES: Final = 1024
MAX_LABELS: Final = 1024
MAX_CONFUSED: Final = 50
MAX_VALUES: Final = 16
MAX_WIDTH: Final = 2**22
REF_ID_BYTES: Final = 8
_FORMAT: Final = 1
_NUMBERS: Final = (
    *("mean", "sd", "low", "high"),
    *("location_within", "location_between", "scale_within", "scale_between"),
)


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """The reference of one feature.

    ``low`` and ``high`` bound what the calibration rows held, widened by 10 %.
    ``location_within`` and ``scale_within`` are the variances of the contrasts of
    ``binning`` between units of ``unit_rows`` rows of one group (recording);
    ``location_between`` and ``scale_between`` are those between groups.

    A category has no edges but ``categories``, its values that have a bin; all others
    share the last one. Of consecutive calibration rows of one recording,
    ``repeat_ppm`` parts in a million repeated the value before, in at most
    ``longest_run`` rows on end; None where nobody looked.
    """

    name: str
    edges: Float32
    counts: Int64
    missing: int
    mean: float
    sd: float
    low: float
    high: float
    location_within: float
    location_between: float
    scale_within: float
    scale_between: float
    categories: Float32 | None = field(default=None, kw_only=True)
    repeat_ppm: int | None = field(default=None, kw_only=True)
    longest_run: int = field(default=0, kw_only=True)

    @property
    def bins(self) -> int:
        """How many bins it has."""
        parts = self.edges if self.categories is None else self.categories
        return len(parts) + 1


@dataclass(frozen=True, eq=False)
class OutputReference:
    """The reference of a classifier's outputs.

    ``confidence_correct`` counts, for each confidence bin, the reference outputs that
    were right; all zero when the reference had no labels. ``confusion`` (int64 [K, K],
    row the truth, column the prediction) is there with labels and up to 50 classes.
    """

    labels: tuple[str, ...]
    class_counts: Int64
    confidence_edges: Float32
    confidence_counts: Int64
    confidence_correct: Int64
    margin_edges: Float32
    margin_counts: Int64
    confusion: Int64 | None = None


@dataclass(frozen=True, eq=False)
class ValueReference:
    """The reference of real-valued outputs.

    Attributes:
        values: One a counted value: each output where there are up to 16, else the
            nine of ``quality.project``.
        width: How many values an output has.
    """

    values: tuple[FeatureReference, ...]
    width: int

    @cached_property
    def bin_table(self) -> BinTable:
        """The table that counts values."""
        return BinTable([one.edges for one in self.values])

    def reduce(self, outputs: Float32) -> Float32:
        """Return what is counted of outputs (float32 [n, width]), float32 [n, V]."""
        return outputs if self.width <= MAX_VALUES else project(outputs)


@dataclass(frozen=True)
class Layout:
    """Where each part of a window's flat count vector lies.

    A classifier has classes, confidence and margin; other models have the bins of each
    output value in their place (``value_offsets``, from 0).
    """

    bin_offsets: tuple[int, ...]
    labels: int
    value_offsets: tuple[int, ...] = ()

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.bin_offsets) - 1

    def bins(self, feature: int) -> slice:
        """Return the bins of one feature."""
        return slice(self.bin_offsets[feature], self.bin_offsets[feature + 1])

    def _counter(self, index: int) -> slice:
        start = self.bin_offsets[-1] + index * self.features
        return slice(start, start + self.features)

    @property
    def missing(self) -> slice:
        """Values that were not finite, a feature."""
        return self._counter(0)

    @property
    def below(self) -> slice:
        """Values under ``low``, a feature; they are in the first bin too."""
        return self._counter(1)

    @property
    def above(self) -> slice:
        """Values over ``high``, a feature; they are in the last bin too."""
        return self._counter(2)

    @property
    def repeat(self) -> slice:
        """Values equal to the one before in their stream, a feature."""
        return self._counter(3)

    @property
    def classes(self) -> slice:
        """Inferences a predicted class."""
        start = self.bin_offsets[-1] + 4 * self.features
        return slice(start, start + self.labels)

    @property
    def confidence(self) -> slice:
        """Inferences a bin of the largest output."""
        start = self.classes.stop
        return slice(start, start + (CONFIDENCE_BINS if self.labels else 0))

    @property
    def margin(self) -> slice:
        """Inferences a bin of the difference of the two largest outputs."""
        start = self.confidence.stop
        return slice(start, start + (MARGIN_BINS if self.labels else 0))

    def value(self, index: int) -> slice:
        """Return the bins of one output value."""
        start = self.margin.stop
        return slice(
            start + self.value_offsets[index], start + self.value_offsets[index + 1]
        )

    @property
    def outputs(self) -> tuple[slice, ...]:
        """Return the parts that each count every inference once."""
        if self.labels:
            return self.classes, self.confidence, self.margin
        return tuple(self.value(one) for one in range(len(self.value_offsets) - 1))

    @property
    def size(self) -> int:
        """Length of the count vector."""
        values = self.value_offsets[-1] if self.value_offsets else 0
        return int(self.margin.stop) + values


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """All that statistics of one model are compared with.

    Attributes:
        kind: What a row is; see docs/spec/profile.md.
        features: In the order of a row's values.
        outputs: The outputs' reference.
        unit_rows: Rows of one unit, the smallest stretch that is an independent
            replicate (about one recording).
        groups: How many groups (recordings) stand behind the between-variances; 0 when
            the calibration data named none.
        triads: Feature indices that form one three-axis sensor.
    """

    kind: ProfileKind
    features: tuple[FeatureReference, ...]
    outputs: OutputReference | ValueReference
    unit_rows: int
    groups: int
    triads: tuple[tuple[int, int, int], ...]

    @cached_property
    def bin_table(self) -> BinTable:
        """The table that counts rows."""
        return BinTable(
            [one.edges for one in self.features],
            [one.categories for one in self.features],
        )

    @cached_property
    def layout(self) -> Layout:
        """The layout of a count vector under this profile."""
        offsets = tuple(int(one) for one in self.bin_table.offsets)
        if isinstance(self.outputs, ValueReference):
            values = tuple(int(one) for one in self.outputs.bin_table.offsets)
            return Layout(offsets, 0, values)
        return Layout(offsets, len(self.outputs.labels))

    @property
    def output_width(self) -> int:
        """How many values an output has, before anything is counted."""
        if isinstance(self.outputs, ValueReference):
            return self.outputs.width
        return len(self.outputs.labels)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return encode_cbor(_to_wire(self))

    @cached_property
    def ref_id(self) -> bytes:
        """The 8 bytes that name this profile in windows."""
        return hashlib.sha256(self.encoded).digest()[:REF_ID_BYTES]

    @classmethod
    def decode(cls, data: bytes) -> "ReferenceProfile":
        """Parse canonical profile bytes.

        Raises:
            ProfileError: Malformed, too large, or inconsistent.
        """
        try:
            wire = decode_cbor(data, max_bytes=MAX_PROFILE_BYTES)
        except CanonicalError as error:
            msg = f"reference profile: {error}"
            raise ProfileError(msg) from error
        try:
            profile = _from_wire(wire)
        except (
            *(AttributeError, LookupError, TypeError, ValueError),
            WindowError,
        ) as error:
            msg = f"reference profile: malformed: {type(error).__name__}: {error}"
            raise ProfileError(msg) from error
        _check(profile)
        return profile


def _to_wire(profile: ReferenceProfile) -> dict[int, Any]:
    outputs = profile.outputs
    is_real = isinstance(outputs, ValueReference)
    return {
        1: _FORMAT,
        2: profile.kind,
        3: [_feature_to_wire(one) for one in profile.features],
        8 if is_real else 4: _outputs_to_wire(outputs),
        5: profile.unit_rows,
        6: profile.groups,
        7: [list(triad) for triad in profile.triads],
    }


def _feature_to_wire(one: FeatureReference) -> dict[int, Any]:
    wire: dict[int, Any] = {
        1: one.name,
        2: _pack(one.edges),
        3: [int(count) for count in one.counts],
        4: one.missing,
        5: _pack(np.array(_numbers(one), dtype=np.float64)),
    }
    if one.categories is not None:
        wire[6] = _pack(one.categories)
    if one.repeat_ppm is not None:
        wire[7] = [one.repeat_ppm, one.longest_run]
    return wire


def _outputs_to_wire(outputs: OutputReference | ValueReference) -> dict[int, Any]:
    if isinstance(outputs, ValueReference):
        return {1: outputs.width, 2: [_feature_to_wire(one) for one in outputs.values]}
    wire = {
        1: list(outputs.labels),
        2: [int(count) for count in outputs.class_counts],
        3: _pack(outputs.confidence_edges),
        4: [int(count) for count in outputs.confidence_counts],
        5: [int(count) for count in outputs.confidence_correct],
        6: _pack(outputs.margin_edges),
        7: [int(count) for count in outputs.margin_counts],
    }
    if outputs.confusion is not None:
        wire[8] = encode_counts(outputs.confusion.ravel())
    return wire


def _numbers(one: FeatureReference) -> list[float]:
    return [getattr(one, name) for name in _NUMBERS]


def _from_wire(wire: Any) -> ReferenceProfile:
    if wire[1] != _FORMAT:
        msg = f"expected format {_FORMAT}, found {wire[1]!r}"
        raise ValueError(msg)
    if wire[2] not in get_args(ProfileKind):
        msg = f"unknown kind {wire[2]!r}"
        raise ValueError(msg)
    return ReferenceProfile(
        kind=wire[2],
        features=tuple(_feature_from_wire(one) for one in wire[3]),
        outputs=_outputs_from_wire(wire),
        unit_rows=_count(wire[5]),
        groups=_count(wire[6]),
        triads=tuple((_count(a), _count(b), _count(c)) for a, b, c in wire[7]),
    )


def _outputs_from_wire(wire: Any) -> OutputReference | ValueReference:
    if 8 in wire:
        if 4 in wire:
            msg = "expected classes or values, found both"
            raise ValueError(msg)
        values = tuple(_feature_from_wire(one) for one in wire[8][2])
        return ValueReference(values, _count(wire[8][1]))
    outputs = wire[4]
    labels = tuple(_text(one) for one in outputs[1])
    return OutputReference(
        labels=labels,
        class_counts=_counts(outputs[2]),
        confidence_edges=_unpack(outputs[3]),
        confidence_counts=_counts(outputs[4]),
        confidence_correct=_counts(outputs[5]),
        margin_edges=_unpack(outputs[6]),
        margin_counts=_counts(outputs[7]),
        confusion=_confusion(outputs[8], len(labels)) if 8 in outputs else None,
    )


def _confusion(data: bytes, labels: int) -> Int64:
    if labels > MAX_CONFUSED:
        msg = f"expected a confusion matrix of up to {MAX_CONFUSED} classes"
        raise ValueError(msg)
    return decode_counts(data, labels**2).reshape(labels, labels)


def _feature_from_wire(one: Any) -> FeatureReference:
    numbers = np.frombuffer(one[5], dtype="<f4")
    if len(numbers) != 8 or not np.isfinite(numbers).all():
        msg = "expected 8 finite numbers a feature"
        raise ValueError(msg)
    repeat_ppm, longest_run = one.get(7, (None, 0))
    return FeatureReference(
        _text(one[1]),
        _unpack(one[2]),
        _counts(one[3]),
        _count(one[4]),
        *(float(number) for number in numbers),
        categories=_unpack(one[6]) if 6 in one else None,
        repeat_ppm=None if repeat_ppm is None else _count(repeat_ppm),
        longest_run=_count(longest_run),
    )


def _check(profile: ReferenceProfile) -> None:
    features = len(profile.features)
    problems = [
        (not 1 <= features <= MAX_FEATURES, f"{features} features"),
        (profile.unit_rows < 1, f"unit of {profile.unit_rows} rows"),
        (any(max(one) >= features for one in profile.triads), "triads"),
    ]
    counted = profile.features
    if isinstance(profile.outputs, ValueReference):
        counted += profile.outputs.values
        named = any(one.categories is not None for one in profile.outputs.values)
        problems.append((named, "categories of outputs"))
        problems += _value_problems(profile.outputs)
    else:
        problems += _class_problems(profile.outputs)
    for one in counted:
        problems += [
            (one.bins > BINS or not _increasing(one.edges), f"edges of {one.name!r}"),
            (len(one.counts) != one.bins, f"counts of {one.name!r}"),
            (not _categories_fit(one), f"categories of {one.name!r}"),
            ((one.repeat_ppm or 0) > 1_000_000, f"repeats of {one.name!r}"),
            (one.counts.sum() < 1, f"counts of {one.name!r}"),
            (one.sd < 0 or one.low > one.high, f"range of {one.name!r}"),
            (min(_numbers(one)[4:]) < 0, f"variances of {one.name!r}"),
        ]
    found = [name for wrong, name in problems if wrong]
    if found:
        msg = f"reference profile: inconsistent: {', '.join(found)}"
        raise ProfileError(msg)


def _class_problems(outputs: OutputReference) -> list[tuple[bool, str]]:
    labels = len(outputs.labels)
    return [
        (not 1 <= labels <= MAX_LABELS, f"{labels} labels"),
        (len(outputs.class_counts) != labels, "class counts"),
        (not _edges_fit(outputs.confidence_edges, CONFIDENCE_BINS), "confidence edges"),
        (len(outputs.confidence_counts) != CONFIDENCE_BINS, "confidence counts"),
        (len(outputs.confidence_correct) != CONFIDENCE_BINS, "confidence correct"),
        (not _edges_fit(outputs.margin_edges, MARGIN_BINS), "margin edges"),
        (len(outputs.margin_counts) != MARGIN_BINS, "margin counts"),
    ]


def _value_problems(outputs: ValueReference) -> list[tuple[bool, str]]:
    width = outputs.width
    counted = width if width <= MAX_VALUES else len(EMBEDDING_FEATURES)
    return [
        (not 1 <= width <= MAX_WIDTH, f"outputs of {width} values"),
        (len(outputs.values) != counted, "counted output values"),
    ]


def _categories_fit(one: FeatureReference) -> bool:
    values = one.categories
    if values is None:
        return True
    return len(values) > 0 and not len(one.edges) and _increasing(values)


def _edges_fit(edges: Float32, bins: int) -> bool:
    return len(edges) == bins - 1 and bool((np.diff(edges) >= 0).all())


def _increasing(edges: Float32) -> bool:
    return bool((np.diff(edges) > 0).all())


def _pack(values: Float32 | Float64) -> bytes:
    return values.astype("<f4").tobytes()


def _unpack(data: Any) -> Float32:
    values = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not np.isfinite(values).all():
        msg = "expected finite edges"
        raise ValueError(msg)
    return values


def _counts(values: Any) -> Int64:
    return np.array([_count(one) for one in values], dtype=np.int64)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        msg = f"expected a count, found {value!r}"
        raise ValueError(msg)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        msg = f"expected a text of 1 to 64 characters, found {value!r}"
        raise ValueError(msg)
    return value
