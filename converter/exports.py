# SPDX-License-Identifier: Apache-2.0
"""The float models of a source: one for each runtime that a device asks for.

Owns which runtimes are worth exporting for. Any device is served by LiteRT where the
source reaches it, else by the reference runtime where that does; a device profile
brings in every runtime that it names.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from converter.errors import ConvertCompatError
from converter.loaders import Source
from converter.model import RUNTIMES, FloatModel, Runtime
from converter.profiles import DeviceProfile
from converter.tensors import TensorSpec
from edge_contract.reference_model import Linear, ReferenceModel

_BY_MANIFEST: Final[dict[str, Runtime]] = {
    "litert": "litert",
    "tflite-runtime": "litert",
    "onnxruntime": "onnxruntime",
    "reference": "reference",
}


def export_models(
    source: Source, profiles: Iterable[DeviceProfile | None]
) -> tuple[tuple[FloatModel, ...], dict[str, str]]:
    """Return the normalised float models of a source, and what it does not reach.

    Args:
        source: An open source model.
        profiles: Device profiles; None is any device.

    Returns:
        One model a runtime that is needed and reached, the likeliest first; and runtime
        to the reason for each that is needed and not reached.

    Raises:
        ConvertCompatError: A device has no runtime that the source reaches.
        ConvertError: An export fails.
    """
    first = next((one for one in RUNTIMES if not source.why_not(one)), None)
    if first is None:
        reasons = "; ".join(f"{one}: {source.why_not(one)}" for one in RUNTIMES)
        msg = f"{source.name}: no runtime can run it: {reasons}"
        raise ConvertCompatError(msg, next_step="change the model's layers")
    needed: set[Runtime] = {first}
    absent: dict[str, str] = {}
    for profile in profiles:
        if profile is None:
            continue
        wanted = {_BY_MANIFEST[one] for one in profile.runtimes if one in _BY_MANIFEST}
        missed = {one: why for one in sorted(wanted) if (why := source.why_not(one))}
        if len(missed) == len(wanted):
            msg = f"{source.name}: {profile.name} has {', '.join(profile.runtimes)}"
            raise ConvertCompatError(
                f"{msg} only, which this source does not reach: "
                + "; ".join(missed.values()),
                next_step="leave the profile out",
            )
        needed |= wanted - set(missed)
        absent.update({str(one): why for one, why in missed.items()})
    models = tuple(export_model(source, one) for one in RUNTIMES if one in needed)
    return models, absent


def _reference_model(content: bytes) -> FloatModel:
    """Return its normal form: a softmax at a linear model's end is left to a step."""
    model = ReferenceModel.decode(content)
    is_linear = isinstance(model.body, Linear)
    post: tuple[str, ...] = ()
    if is_linear and model.link == "softmax":
        model, post = replace(model, link="none"), ("softmax",)
    return FloatModel(
        model.encode(),
        TensorSpec("input", (1, model.inputs)),
        TensorSpec("output", (1, model.outputs)),
        ("Linear" if is_linear else "Trees",),
        "reference",
        post,
    )


def runtime_of(name: str) -> Runtime:
    """Return whose files the runtime that a manifest names can read."""
    return _BY_MANIFEST[name]


def export_model(source: Source, runtime: Runtime) -> FloatModel:
    """Return the normalised float model for a runtime that the source reaches.

    Raises:
        ConvertError: The export fails.
    """
    content = source.export(runtime)
    if runtime == "onnxruntime":
        from converter.ort.normalise import normalise as normalise_onnx

        return normalise_onnx(content, source=source.name)
    if runtime == "reference":
        return _reference_model(content)
    from converter.litert.normalise import normalise

    return normalise(content, source=source.name)
