# SPDX-License-Identifier: Apache-2.0
"""From results to a bundle file.

Owns what the manifest says and what it leaves out: nothing that varies between two
builds of the same inputs (time, host, latency) is inside. The format is
``edge_contract.bundle``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from converter.candidate import Candidate, Recipe
from converter.data.rule import FrameRule
from converter.errors import ConvertOutputError
from converter.outputs import Meaning
from converter.tensors import TensorSpec
from edge_contract.bundle import write_bundle
from edge_contract.canonical import sha256_hex
from edge_contract.golden import GoldenVectors
from edge_contract.manifest import InputSpec, Manifest, OutputSpec, Variant
from edge_contract.profile import ReferenceProfile

RUNTIME: Final = "litert"
_RUNTIME_PACKAGE = "ai-edge-litert"
_TOOLS = (_RUNTIME_PACKAGE, "ai-edge-quantizer", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, eq=False)
class PackedVariant:
    """A candidate as the bundle names it: one file may serve two runtimes."""

    id: str
    runtime: str
    min_runtime: str
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Parts:
    """All that goes into a bundle."""

    name: str
    rule: FrameRule
    meaning: Meaning
    output: TensorSpec
    features: tuple[str, ...]
    labels: tuple[str, ...]
    packed: tuple[PackedVariant, ...]
    selected: Mapping[str, str]
    reference: ReferenceProfile
    golden: GoldenVectors
    lineage: Mapping[str, Any]
    metrics: Mapping[str, Any]


def toolchain(source: Mapping[str, str]) -> dict[str, str]:
    """Return package to version of all that shapes the bytes."""
    return {**{name: metadata.version(name) for name in _TOOLS}, **source}


def runtime_version() -> str:
    """Return the version of the runtime that variants are verified on."""
    return metadata.version(_RUNTIME_PACKAGE)


def make_manifest(parts: Parts) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and, by digest, the files that it names."""
    golden, reference = parts.golden.encode(), parts.reference.encoded
    files = [golden, reference, *(one.candidate.content for one in parts.packed)]
    contents = {sha256_hex(one): one for one in files}
    manifest = Manifest(
        name=parts.name,
        task=parts.meaning.task,
        observe=parts.rule.observe,
        input=InputSpec(
            name=parts.rule.input.name,
            shape=parts.rule.input.shape,
            dtype=parts.rule.input.dtype,
            hop=parts.rule.hop if parts.rule.observe == "series" else None,
            features=parts.features,
        ),
        output=OutputSpec(
            parts.output.name, parts.output.shape, parts.output.dtype, parts.labels
        ),
        post=parts.meaning.post,
        variants=tuple(_variant(one) for one in parts.packed),
        selected=dict(parts.selected),
        profile_file=sha256_hex(reference),
        ref_id=parts.reference.ref_id.hex(),
        golden_file=sha256_hex(golden),
        files={digest: len(one) for digest, one in contents.items()},
        lineage=parts.lineage,
        metrics=parts.metrics,
        pre=parts.rule.pre,
        value_range=parts.rule.value_range,
    )
    return manifest, contents


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe for the lineage: the same recipe gives the same bytes."""
    return {
        "runtime": recipe.runtime,
        "scheme": recipe.scheme,
        "ranges": recipe.ranges,
        "per_channel": recipe.per_channel,
        "unsigned": recipe.unsigned,
        "reduce_range": recipe.reduce_range,
        "is_equalised": recipe.is_equalised,
        "is_corrected": recipe.is_corrected,
        "kept_float": list(recipe.kept_float),
    }


def _variant(one: PackedVariant) -> Variant:
    content = one.candidate.content
    return Variant(
        id=one.id,
        runtime=one.runtime,
        min_runtime=one.min_runtime,
        dtype=one.candidate.dtype,
        file=sha256_hex(content),
        bytes=len(content),
    )


def check_target(path: Path) -> None:
    """Refuse, before the work begins, an output path that cannot be written.

    Raises:
        ConvertOutputError: Its folder does not exist, or it is a folder.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        msg = f"{path}: expected a file path in an existing folder"
        raise ConvertOutputError(msg, next_step="create the folder or change -o")


def write(path: Path, parts: Parts, sign_key: bytes | None) -> str:
    """Write the bundle, whole or not at all; return the release digest.

    Raises:
        ConvertOutputError: The disk refused.
    """
    manifest, contents = make_manifest(parts)
    try:
        return write_bundle(path, manifest, contents, sign_key=sign_key)
    except OSError as error:
        msg = f"{path}: the bundle cannot be written: {error.strerror or error}"
        raise ConvertOutputError(
            msg, next_step="free some space or change -o; nothing was left behind"
        ) from error
