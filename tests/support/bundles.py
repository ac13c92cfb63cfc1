# SPDX-License-Identifier: Apache-2.0
"""Real bundles around the tiny models of ``tflite_models``, for tests of the agent."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.runtime.backend import find_backend
from edge_contract.binning import equal_mass_edges
from edge_contract.bundle import Bundle, write_bundle
from edge_contract.canonical import sha256_hex
from edge_contract.golden import GoldenVectors, Tolerance
from edge_contract.manifest import (
    InputSpec,
    Manifest,
    OutputSpec,
    Runtime,
    Task,
    Variant,
)
from edge_contract.profile import (
    FeatureReference,
    OutputReference,
    ProfileKind,
    ReferenceProfile,
    ValueReference,
)
from edge_contract.quality import feature_names, observe
from tests.support.onnx_models import dense_onnx
from tests.support.tflite_models import dense_model, stack_model

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class ModelRecipe:
    """What a test model looks like; another ``seed`` is another release."""

    length: int = 8
    hop: int = 4
    features: int = 2
    labels: tuple[str, ...] = ("low", "middle", "high")
    seed: int = 0
    observe: ProfileKind = "series"
    name: str = "toy"
    profile_seed: int = 0
    wrong_golden: bool = False
    bias: tuple[float, ...] = field(default=())
    runtime: Runtime = "litert"
    min_runtime: str = "1.0.0"
    task: Task = "classification"
    pre: tuple[dict[str, str], ...] = ()
    post: tuple[dict[str, str], ...] = ()
    hidden: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's input."""
        if self.observe == "series":
            return (1, self.length, self.features)
        if self.observe == "image":
            return (1, self.length, self.length, self.features)
        return (1, self.features)


def make_bundle(
    path: Path,
    recipe: ModelRecipe | None = None,
    *,
    sign_key: bytes | None = None,
    model: bytes | None = None,
) -> str:
    """Write a bundle and return its release digest.

    Args:
        path: The file.
        recipe: What the model looks like.
        sign_key: Signs it.
        model: A file of that form, to be served in place of a made one.
    """
    recipe = recipe or ModelRecipe()
    random = np.random.default_rng(recipe.seed)
    labels = len(recipe.labels)
    is_classifier = recipe.task == "classification"
    if model is None:
        model = _make_model(recipe, random)
    runtime = "litert" if recipe.runtime == "tflite-runtime" else recipe.runtime
    backend = find_backend(runtime).load_model(model, threads=1)
    inputs = random.normal(size=(4, *recipe.input_shape[1:])).astype(np.float32)
    outputs = np.concatenate([backend.infer(one[np.newaxis]) for one in inputs])
    if recipe.wrong_golden:
        outputs = np.roll(outputs, 1, axis=1)
    margin = 1e-3 if is_classifier else math.inf
    golden = GoldenVectors(
        inputs, {"float32": outputs}, {"float32": Tolerance("sqnr", 80.0, margin)}
    ).encode()
    profile = make_profile(recipe)
    contents = {sha256_hex(one): one for one in (model, golden, profile.encoded)}
    manifest = Manifest(
        name=recipe.name,
        task=recipe.task,
        observe=recipe.observe,
        input=InputSpec(
            "input",
            recipe.input_shape,
            "float32",
            recipe.hop if recipe.observe == "series" else None,
            tuple(one.name for one in profile.features),
        ),
        output=OutputSpec(
            "output",
            (1, labels),
            "float32",
            recipe.labels if is_classifier else (),
        ),
        post=recipe.post,
        variants=(
            Variant(
                "float32",
                recipe.runtime,
                recipe.min_runtime,
                "float32",
                sha256_hex(model),
                len(model),
            ),
        ),
        selected={"default": "float32"},
        profile_file=sha256_hex(profile.encoded),
        ref_id=profile.ref_id.hex(),
        golden_file=sha256_hex(golden),
        files={digest: len(one) for digest, one in contents.items()},
        pre=recipe.pre,
    )
    return write_bundle(path, manifest, contents, sign_key=sign_key)


def damage_model(
    source: Path, target: Path, offset: int, value: int, **how: Any
) -> str:
    """Write a bundle whose model file differs in one byte, and all else is in order.

    Args:
        source: A bundle with one variant.
        target: Where to write the other.
        offset: Of the byte in the model's file.
        value: Of the byte.
        how: For ``write_bundle``.

    Returns:
        The release digest.
    """
    with Bundle.open(source) as bundle:
        manifest = bundle.manifest
        contents = {one: bundle.read(one) for one in manifest.files}
    (variant,) = manifest.variants
    model = bytearray(contents.pop(variant.file))
    model[offset] = value
    digest = sha256_hex(bytes(model))
    contents[digest] = bytes(model)
    manifest = replace(
        manifest,
        variants=(replace(variant, file=digest),),
        files={one: len(data) for one, data in contents.items()},
    )
    return write_bundle(target, manifest, contents, **how)


def _make_model(recipe: ModelRecipe, random: np.random.Generator) -> bytes:
    labels, size = len(recipe.labels), int(np.prod(recipe.input_shape))
    softmax = recipe.task == "classification" and not recipe.post
    if recipe.hidden:
        widths = (size, *recipe.hidden, labels)
        return stack_model(widths, recipe.seed, softmax=softmax)
    weights = random.normal(size=(labels, size)).astype(np.float32)
    bias = np.array(recipe.bias or [0.0] * labels, dtype=np.float32)
    make = dense_onnx if recipe.runtime == "onnxruntime" else dense_model
    return make(weights, bias, recipe.input_shape, softmax=softmax)


def make_profile(recipe: ModelRecipe) -> ReferenceProfile:
    """Return a reference profile of normal rows."""
    random = np.random.default_rng(recipe.profile_seed + 1000)
    shape: tuple[int, ...] = (recipe.features,)
    if recipe.observe == "image":
        shape = recipe.input_shape[1:]
    frames = random.normal(size=(512, *shape)).astype(np.float32)
    rows = observe(recipe.observe, frames)
    names = feature_names(recipe.observe, recipe.features)
    features = tuple(_feature(name, rows[:, index]) for index, name in enumerate(names))
    return ReferenceProfile(
        recipe.observe, features, _outputs(recipe, random), 64, 0, ()
    )


def _outputs(
    recipe: ModelRecipe, random: np.random.Generator
) -> OutputReference | ValueReference:
    labels = len(recipe.labels)
    if recipe.task == "regression":
        values = random.normal(size=(512, labels)).astype(np.float32)
        return ValueReference(
            tuple(_feature(f"v{one}", values[:, one]) for one in range(labels)), labels
        )
    return OutputReference(
        labels=recipe.labels,
        class_counts=np.full(labels, 10, dtype=np.int64),
        confidence_edges=np.linspace(0.3, 1, 15, dtype=np.float32),
        confidence_counts=np.ones(16, dtype=np.int64),
        confidence_correct=np.zeros(16, dtype=np.int64),
        margin_edges=np.linspace(0, 1, 7, dtype=np.float32),
        margin_counts=np.ones(8, dtype=np.int64),
    )


def _feature(name: str, values: Float32) -> FeatureReference:
    edges = equal_mass_edges(values)
    bins = np.searchsorted(edges, values, side="right")
    return FeatureReference(
        name=name,
        edges=edges,
        counts=np.bincount(bins, minlength=len(edges) + 1).astype(np.int64),
        missing=0,
        mean=float(values.mean()),
        sd=float(values.std()),
        low=float(values.min()),
        high=float(values.max()),
        location_within=0.01,
        location_between=0.01,
        scale_within=0.01,
        scale_between=0.01,
    )


def another(recipe: ModelRecipe, **changes: object) -> ModelRecipe:
    """Return a recipe with some fields changed."""
    return replace(recipe, **changes)  # type: ignore[arg-type]
