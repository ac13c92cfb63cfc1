# SPDX-License-Identifier: Apache-2.0
"""The float models of a source: one for each runtime that a device asks for.

Owns which runtimes are worth exporting for. Any device is served by LiteRT where the
source reaches it; a device profile brings in every runtime that it names.
"""

from collections.abc import Iterable
from typing import Final

from converter.errors import ConvertCompatError
from converter.loaders import Source
from converter.model import RUNTIMES, FloatModel, Runtime
from converter.profiles import DeviceProfile

_BY_MANIFEST: Final[dict[str, Runtime]] = {
    "litert": "litert",
    "tflite-runtime": "litert",
    "onnxruntime": "onnxruntime",
}


def export_models(
    source: Source, profiles: Iterable[DeviceProfile | None]
) -> tuple[tuple[FloatModel, ...], dict[str, str]]:
    """Return the normalised float models of a source, and what it does not reach.

    Args:
        source: An open source model.
        profiles: Device profiles; None is any device.

    Returns:
        One model a runtime that is needed and reached, LiteRT first; and runtime to
        the reason for each that is needed and not reached.

    Raises:
        ConvertCompatError: A device has no runtime that the source reaches.
        ConvertError: An export fails.
    """
    reached = [one for one in RUNTIMES if not source.runtimes.get(one, "unknown")]
    if not reached:
        reasons = "; ".join(f"{name}: {why}" for name, why in source.runtimes.items())
        msg = f"{source.name}: no runtime can run it: {reasons}"
        raise ConvertCompatError(msg, next_step="change the model's layers")
    needed: set[Runtime] = {reached[0]}
    absent: dict[str, str] = {}
    for profile in profiles:
        if profile is None:
            continue
        wanted = {_BY_MANIFEST[one] for one in profile.runtimes if one in _BY_MANIFEST}
        if not wanted & set(reached):
            reasons = "; ".join(source.runtimes.get(one, "") for one in sorted(wanted))
            msg = f"{source.name}: {profile.name} has {', '.join(profile.runtimes)}"
            raise ConvertCompatError(
                f"{msg} only, which this source does not reach: {reasons}",
                next_step="leave the profile out",
            )
        needed |= wanted & set(reached)
        absent |= {one: source.runtimes[one] for one in wanted - set(reached)}
    models = tuple(_export(source, one) for one in RUNTIMES if one in needed)
    return models, absent


def _export(source: Source, runtime: Runtime) -> FloatModel:
    content = source.export(runtime)
    if runtime == "onnxruntime":
        from converter.ort.normalise import normalise as normalise_onnx

        return normalise_onnx(content, source=source.name)
    from converter.litert.normalise import normalise

    return normalise(content, source=source.name)
