# SPDX-License-Identifier: Apache-2.0
"""A model ready to serve: one release of a bundle, loaded for this device.

Owns how a bundle becomes something that infers, and the proof that it infers what the
converter saw. It verifies signatures only when asked with keys; the update process has
verified what is in the store.

Example:
    >>> from edge_agent import load  # doctest: +SKIP
    >>> model = load("watch.bundle", trust=["builder.pub"])  # doctest: +SKIP
    >>> model.labels[model.infer(frame).argmax()]  # doctest: +SKIP
    'ROW'
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np

from edge_agent.device import load_builder_keys
from edge_agent.errors import BackendError, ModelError
from edge_agent.flow import Float32, Grid, ModelCard
from edge_agent.runtime.backend import Backend, find_backend
from edge_agent.runtime.hardware import AUTO, find_device_profile
from edge_agent.runtime.variants import choose_variant
from edge_contract import quality
from edge_contract.bundle import Bundle
from edge_contract.errors import BundleUnsignedError
from edge_contract.golden import GoldenResult, compare
from edge_contract.manifest import Manifest, Variant
from edge_contract.profile import ReferenceProfile
from edge_contract.signing import parse_public_key
from edge_contract.steps import apply_pre, check_post, check_pre, compile_post
from edge_contract.steps.post import PostStep

_FLOAT32: Final = np.dtype(np.float32)
_BY_VALUE: Final = ("vector", "series")
_DIMENSIONS: Final = {"vector": 1, "series": 2, "image": 3}


@dataclass(frozen=True, eq=False)
class Model:
    """One loaded variant of one release; not thread-safe.

    Attributes:
        digest: The release digest, 64 hex digits.
        manifest: The bundle's manifest.
        profile: The reference profile that its statistics are counted under.
        variant: The variant that serves.
        backend: The loaded file.
    """

    digest: str
    manifest: Manifest
    profile: ReferenceProfile
    variant: Variant
    backend: Backend

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of an output."""
        return self.manifest.output.labels

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a frame as a source delivers it, batch of 1 first."""
        return (1, *self.manifest.frame_shape)

    @cached_property
    def is_series(self) -> bool:
        """Whether a frame is rows of a stream, and not one row by itself."""
        return self.manifest.observe == "series"

    @cached_property
    def grid(self) -> Grid:
        """How it cuts frames."""
        shape = self.manifest.frame_shape
        if self.is_series:
            return Grid(shape[0], self.manifest.input.hop or shape[0], shape[1])
        return Grid(1, 1, math.prod(shape))

    @cached_property
    def _post(self) -> tuple[PostStep, ...]:
        return compile_post(self.manifest.post)

    @cached_property
    def rows_shape(self) -> tuple[int, int]:
        """Shape of a frame as rows, [n, C]."""
        return self.grid.length, self.grid.features

    @cached_property
    def card(self) -> ModelCard:
        """What a client may know of it."""
        manifest, runtime = self.manifest, self.variant.runtime
        return ModelCard(
            name=manifest.name,
            digest=self.digest,
            variant=self.variant.id,
            runtime=runtime,
            runtime_version=find_backend(runtime).runtime_version(),
            kernels=self.backend.kernels,
            input_name=manifest.input.name,
            input_shape=self.input_shape,
            output_name=manifest.output.name,
            output_shape=(1, self.profile.output_width),
            labels=manifest.output.labels,
        )

    @property
    def reduce(self) -> Callable[[Float32], Float32] | None:
        """What statistics see of frames that are too large to be seen by value."""
        return None if self.manifest.observe in _BY_VALUE else self._reduce

    def _reduce(self, rows: Float32) -> Float32:
        low, high = (float(one) for one in self.manifest.value_range)
        frames = rows.reshape(len(rows), *self.input_shape[1:])
        return quality.observe(self.manifest.observe, frames, (low, high))

    def infer(self, data: Float32) -> Float32:
        """Return class probabilities, or real values, for one frame.

        Args:
            data: Numbers as a source delivers them, of the manifest's ``frame_shape``,
                with or without a batch of 1; or one row of as many.

        Returns:
            float32 [K], the output flattened; not finite where the model's own is not.

        Raises:
            BackendError: Another shape, or the runtime failed.
        """
        return self.run(self.check_frame(data))

    def check_frame(self, data: Float32) -> Float32:
        """Return ``data`` (see ``infer``) as float32 of ``input_shape``.

        Raises:
            BackendError: Another shape, or no numbers.
        """
        shape = self.input_shape
        if type(data) is np.ndarray and data.dtype is _FLOAT32 and data.shape == shape:
            return data
        try:
            frame = np.asarray(data, dtype=np.float32)
        except (TypeError, ValueError) as error:
            msg = f"model {self.manifest.name}: expected numbers, found {error}"
            raise BackendError(msg, next_step="feed an array of float32") from error
        if frame.shape not in {shape[1:], (1, math.prod(shape))}:
            msg = (
                f"model {self.manifest.name}: expected an input of shape "
                f"{list(shape[1:])}, found {list(frame.shape)}"
            )
            raise BackendError(msg, next_step="feed one frame at a time")
        return frame.reshape(shape)

    def run(self, data: Float32) -> Float32:
        """Return the output of a checked frame; see ``infer``.

        Raises:
            BackendError: The runtime failed.
        """
        if self.manifest.pre:
            data = apply_pre(self.manifest.pre, data)
            data = data.reshape(self.manifest.input.shape)
        raw = self.backend.infer(data)
        output = raw[0] if raw.ndim == 2 else raw.reshape(-1)
        for step in self._post:
            output = step(output)
        return output

    def warm(self) -> None:
        """Run once on zeros, so that the first real frame does not pay for it."""
        self.backend.infer(np.zeros(self.manifest.input.shape, dtype=np.float32))


def load(
    path: str | PathLike[str],
    *,
    trust: Sequence[str | PathLike[str]] = (),
    allow_unsigned: bool = False,
    threads: int = 1,
    device_profile: str = AUTO,
    state_dir: str | PathLike[str] | None = None,
) -> Model:
    """Load a bundle for inference.

    Args:
        path: A bundle file.
        trust: Public key files (PEM); one of them must have signed the bundle.
            Without any, the builder of the enrolment in ``state_dir`` must have.
        allow_unsigned: Load without asking who made the bundle.
        threads: Threads that one inference may use.
        device_profile: Which variant to take; ``auto`` looks at the machine.
        state_dir: The state folder of an enrolled agent.

    Raises:
        EdgeError: Not a bundle, not trusted, or nothing in it can run here.
        OSError: A file cannot be read.
    """
    with Bundle.open(Path(path)) as bundle:
        if not allow_unsigned:
            _check_trust(bundle, trust, state_dir)
        return load_bundle(bundle, threads=threads, device_profile=device_profile)


def load_bundle(
    bundle: Bundle, *, threads: int = 1, device_profile: str = AUTO
) -> Model:
    """Load the variant of an open bundle that fits this device.

    Raises:
        BackendError: The runtime refuses the file.
        ModelError: The model's form cannot be served.
        BundleError: A file inside is damaged.
    """
    manifest = bundle.manifest
    variant = choose_variant(manifest, find_device_profile(device_profile))
    check_pre(manifest.pre)
    check_post(manifest.post)
    profile = bundle.profile
    _check_form(manifest, profile)
    backend = find_backend(variant.runtime).load_model(
        bundle.read(variant.file), threads=threads
    )
    expected = (manifest.input.shape, manifest.output.shape)
    found = (backend.input_shape, backend.output_shape)
    if expected != found:
        msg = (
            f"model {manifest.name}: the manifest says {expected[0]} to {expected[1]}, "
            f"its variant {variant.id} has {found[0]} to {found[1]}"
        )
        raise ModelError(msg, next_step="build the bundle again")
    return Model(bundle.digest, manifest, profile, variant, backend)


def run_golden(model: Model, bundle: Bundle) -> GoldenResult:
    """Run the golden vectors of the model's variant, and compare.

    Raises:
        BackendError: The runtime failed.
    """
    golden = bundle.golden
    shape = model.manifest.input.shape
    outputs = [model.backend.infer(one.reshape(shape))[0] for one in golden.inputs]
    name = model.variant.id
    return compare(np.stack(outputs), golden.outputs[name], golden.tolerances[name])


def prove(model: Model, bundle: Bundle) -> None:
    """Run the golden vectors, and refuse a model that does not reproduce them.

    Raises:
        ModelError: The outputs are not those that the converter saw.
        BackendError: The runtime failed.
    """
    result = run_golden(model, bundle)
    if not result.ok:
        msg = (
            f"model {model.manifest.name}: variant {model.variant.id} does not "
            f"reproduce its golden vectors: largest difference {result.max_abs:.3g}, "
            f"{result.sqnr_db:.1f} dB, {result.disagreements} other winners"
        )
        raise ModelError(msg, next_step="check the runtime's version on this device")


def _check_trust(
    bundle: Bundle,
    trust: Sequence[str | PathLike[str]],
    state_dir: str | PathLike[str] | None,
) -> None:
    if not trust and not bundle.is_signed:
        msg = f"bundle {bundle.path.name}: it is unsigned"
        raise BundleUnsignedError(
            msg, next_step="sign it, or say allow_unsigned=True (--allow-unsigned)"
        )
    if not trust and state_dir is not None:
        bundle.verify_signature(load_builder_keys(Path(state_dir)))
        return
    if not trust:
        msg = f"bundle {bundle.path.name}: no key is given to verify its signature"
        raise BundleUnsignedError(
            msg,
            next_step="name the builder's public key with trust= (--trust), or the "
            "enrolled agent's folder with state_dir= (--config)",
        )
    keys = [parse_public_key(Path(one).read_bytes()) for one in trust]
    bundle.verify_signature(keys)


def _check_form(manifest: Manifest, profile: ReferenceProfile) -> None:
    shape = manifest.frame_shape
    if _DIMENSIONS.get(manifest.observe, len(shape)) != len(shape):
        msg = (
            f"model {manifest.name}: {manifest.observe} does not fit frames of "
            f"shape {list(shape)}"
        )
        raise ModelError(msg, next_step="build the bundle again")
    width = shape[-1] if manifest.observe == "series" else math.prod(shape)
    features = len(quality.feature_names(manifest.observe, width))
    labels = len(manifest.output.labels)
    outputs = labels or math.prod(manifest.output.shape)
    expected = (features, labels, outputs)
    counted = (len(profile.features), profile.layout.labels, profile.output_width)
    if expected != counted:
        msg = (
            f"model {manifest.name}: expected a reference profile of {features} "
            f"features, {labels} labels and {outputs} outputs, found one of "
            f"{counted[0]}, {counted[1]} and {counted[2]}"
        )
        raise ModelError(msg, next_step="build the bundle again")
