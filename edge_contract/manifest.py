# SPDX-License-Identifier: Apache-2.0
"""A bundle's manifest: what is inside, for which runtime, made from what.

Owns docs/spec/bundle.md, section "Manifest". The SHA-256 of its canonical JSON is the
release digest, the name of a release everywhere. It touches no file; see ``bundle``.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, get_args

from edge_contract.canonical import decode_json, encode_json, sha256_hex
from edge_contract.errors import CanonicalError, ManifestError
from edge_contract.profile import ProfileKind
from edge_contract.steps import source_shape

MAX_MANIFEST_BYTES: Final = 256 * 1024
FORMAT: Final = 1
Task = Literal["classification", "regression"]
Runtime = Literal["litert", "tflite-runtime", "onnxruntime", "reference"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_DIMENSION = 2**24
_MAX_TEXT: Final = 256
_MAX_STEP_TEXT: Final = 8192  # a number for each of 512 channels
_DEFAULTS: Final = {"pre": (), "value_range": ("0", "1")}


@dataclass(frozen=True)
class InputSpec:
    """The model's one input.

    ``shape`` begins with the batch, which is 1. ``hop`` is set for ``series``: the new
    rows between two frames. ``features`` names the values of a row.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    hop: int | None
    features: tuple[str, ...]


@dataclass(frozen=True)
class OutputSpec:
    """The model's one output: a score a label, after ``post``.

    ``labels`` is empty for regression.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One file that can serve: for a runtime, in an arithmetic."""

    id: str
    runtime: str
    min_runtime: str
    dtype: str
    file: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """All that is signed of a bundle, and nothing that varies between builds.

    Attributes:
        name: The model's name, stable over releases.
        task: ``classification``, or ``regression`` for any real-valued output.
        observe: What a row of statistics is; the reference profile's kind.
        post: Steps of ``edge_contract.steps`` after the model: first those to what is
            observed, then those from there to a decision.
        variants: In the order of preference where a device profile names none.
        selected: Device profile to variant id; ``default`` is always there.
        profile_file: Digest of the reference profile.
        ref_id: Its 16 hex digits.
        golden_file: Digest of the golden vectors.
        files: Digest to length of every file in the bundle.
        lineage: Digests and versions of what it was made from.
        metrics: Figures that are the same on every machine, as decimal strings.
        pre: Steps of ``edge_contract.steps`` before the model.
        value_range: Black and white of an image, as a source delivers it; the end is
            the full scale of audio. Decimal strings.
    """

    name: str
    task: str
    observe: str
    input: InputSpec
    output: OutputSpec
    post: tuple[Mapping[str, str], ...]
    variants: tuple[Variant, ...]
    selected: Mapping[str, str]
    profile_file: str
    ref_id: str
    golden_file: str
    files: Mapping[str, int]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    pre: tuple[Mapping[str, str], ...] = ()
    value_range: tuple[str, str] = ("0", "1")

    @cached_property
    def encoded(self) -> bytes:
        """The canonical JSON; what has a default is left out where it is that."""
        document = {"format": FORMAT, **asdict(self)}
        for name, default in _DEFAULTS.items():
            if document[name] == default:
                del document[name]
        return encode_json(document)

    @cached_property
    def digest(self) -> str:
        """The release digest, 64 hex digits."""
        return sha256_hex(self.encoded)

    @cached_property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a frame as a source delivers it, without the batch.

        Raises:
            StepError: The steps before the model do not lead to its input.
        """
        return source_shape(self.pre, self.input.shape[1:])

    def variant(self, variant_id: str) -> Variant:
        """Return the variant with this id.

        Raises:
            ManifestError: There is none.
        """
        for one in self.variants:
            if one.id == variant_id:
                return one
        known = ", ".join(one.id for one in self.variants)
        msg = f"manifest: no variant {variant_id!r}; there are {known}"
        raise ManifestError(msg)

    def select(self, device_profile: str = "default") -> Variant:
        """Return the variant chosen for a device profile, else the default one."""
        chosen = self.selected.get(device_profile, self.selected["default"])
        return self.variant(chosen)

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Parse canonical manifest bytes; unknown keys are ignored.

        Raises:
            ManifestError: Malformed, too large, or inconsistent.
        """
        try:
            wire = decode_json(data, max_bytes=MAX_MANIFEST_BYTES)
        except CanonicalError as error:
            msg = f"manifest: {error}"
            raise ManifestError(msg) from error
        try:
            manifest = _from_wire(wire)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            msg = f"manifest: malformed: {type(error).__name__}: {error}"
            raise ManifestError(msg) from error
        _check(manifest)
        return manifest


def check_model_name(name: str) -> str:
    """Return ``name`` if it is a model name, else raise ``ManifestError``."""
    if not _NAME.fullmatch(name):
        msg = f"model name: expected 1 to 64 of a-z 0-9 . _ -, found {name[:80]!r}"
        raise ManifestError(msg)
    return name


def _from_wire(wire: Any) -> Manifest:
    if wire["format"] != FORMAT:
        msg = f"expected format {FORMAT}, found {wire['format']!r}"
        raise ValueError(msg)
    source, target = wire["input"], wire["output"]
    return Manifest(
        name=check_model_name(_text(wire["name"])),
        task=_text(wire["task"]),
        observe=_text(wire["observe"]),
        input=InputSpec(
            _text(source["name"]),
            _shape(source["shape"]),
            _text(source["dtype"]),
            None if source["hop"] is None else _positive(source["hop"]),
            tuple(_text(one) for one in _list(source["features"])),
        ),
        output=OutputSpec(
            _text(target["name"]),
            _shape(target["shape"]),
            _text(target["dtype"]),
            tuple(_text(one) for one in _list(target["labels"])),
        ),
        post=tuple(_step(one) for one in _list(wire["post"])),
        variants=tuple(_variant(one) for one in _list(wire["variants"])),
        selected=_texts(wire["selected"]),
        profile_file=_digest(wire["profile_file"]),
        ref_id=_text(wire["ref_id"]),
        golden_file=_digest(wire["golden_file"]),
        files={_digest(name): _positive(size) for name, size in wire["files"].items()},
        lineage=dict(wire["lineage"]),
        metrics=dict(wire["metrics"]),
        pre=tuple(_step(one) for one in _list(wire.get("pre", []))),
        value_range=_range(wire.get("value_range", ["0", "1"])),
    )


def _variant(one: Any) -> Variant:
    return Variant(
        id=check_model_name(_text(one["id"])),
        runtime=_text(one["runtime"]),
        min_runtime=_text(one["min_runtime"]),
        dtype=_text(one["dtype"]),
        file=_digest(one["file"]),
        bytes=_positive(one["bytes"]),
    )


def _check(manifest: Manifest) -> None:
    ids = [one.id for one in manifest.variants]
    named = {manifest.profile_file, manifest.golden_file}
    named |= {one.file for one in manifest.variants}
    problems = [
        (not ids or len(set(ids)) != len(ids), "variants must have ids of their own"),
        ("default" not in manifest.selected, "selected must name a default"),
        (not set(manifest.selected.values()) <= set(ids), "selected names no variant"),
        (named != set(manifest.files), "files must be exactly those that are named"),
        (manifest.observe not in get_args(ProfileKind), "observe"),
        (manifest.task not in get_args(Task), "task"),
        (manifest.input.shape[:1] != (1,), "the input's batch must be 1"),
        (manifest.output.shape[:1] != (1,), "the output's batch must be 1"),
        (
            bool(manifest.output.labels) != (manifest.task == "classification"),
            "labels",
        ),
        (manifest.observe == "series" and manifest.input.hop is None, "hop"),
        (
            any(one.runtime not in get_args(Runtime) for one in manifest.variants),
            "a variant's runtime",
        ),
        (
            any(manifest.files.get(one.file) != one.bytes for one in manifest.variants),
            "a variant's length",
        ),
    ]
    found = [name for wrong, name in problems if wrong]
    if found:
        msg = f"manifest: inconsistent: {'; '.join(found)}"
        raise ManifestError(msg)


def _text(value: Any, most: int = _MAX_TEXT) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        msg = f"expected a text, found {value!r}"
        raise ValueError(msg)
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(key): _text(one) for key, one in value.items()}


def _step(value: Any) -> dict[str, str]:
    return {_text(key): _text(one, _MAX_STEP_TEXT) for key, one in value.items()}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        msg = f"expected a list, found {value!r}"
        raise TypeError(msg)
    return value


def _positive(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 2**53:
        msg = f"expected a positive integer, found {value!r}"
        raise ValueError(msg)
    return value


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_positive(one) for one in _list(value))
    if any(one > _MAX_DIMENSION for one in shape):
        msg = f"a dimension passes {_MAX_DIMENSION}"
        raise ValueError(msg)
    return shape


def _range(value: Any) -> tuple[str, str]:
    low, high = (_text(one) for one in _list(value))
    if not float(low) < float(high):
        msg = f"expected a range, found {value!r}"
        raise ValueError(msg)
    return low, high


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        msg = f"expected a sha256 in hex, found {value!r}"
        raise ValueError(msg)
    return value
