# SPDX-License-Identifier: Apache-2.0
"""Whether a device can run a candidate, and what the manifest says it needs.

Owns the comparison of what a file needs with what a device profile has. The tables are
``litert.versions``; devices are ``profiles``. It runs nothing.
"""

from dataclasses import dataclass
from typing import Final

from converter.candidate import Candidate
from converter.litert.versions import parse, read_needs
from converter.model import Runtime
from converter.profiles import DeviceProfile
from edge_contract.reference_model import FORMAT

# `ai-edge-litert` continued TensorFlow Lite at 1.0 after TensorFlow 2.16. Which of its
# releases first had an operator version of 2.17 and later is not recorded: the release
# that variants are verified on is asked for.
_LAST_TENSORFLOW: Final = "2.16.0"
_FIRST_LITERT: Final = "1.0.0"
_VERIFIED_LITERT: Final = "2.3.0"
# ONNX Runtime to the newest file form and operator set that it reads, from its
# compatibility page (onnxruntime.ai, read 2026-11).
ONNX_LIMITS: Final = {
    "1.16.0": (9, 19),
    "1.17.0": (9, 20),
    "1.18.0": (10, 21),
    "1.20.0": (10, 21),
    "1.21.0": (10, 22),
    "1.22.0": (11, 23),
    "1.23.0": (12, 23),
}


@dataclass(frozen=True)
class Compatibility:
    """A candidate on a class of devices.

    Attributes:
        runtime: The runtime that the manifest names.
        min_runtime: Its oldest version that can run the candidate.
        objections: Why it must not be chosen there; empty where it may.
    """

    runtime: str
    min_runtime: str
    objections: tuple[str, ...] = ()


def check(candidate: Candidate, profile: DeviceProfile | None) -> Compatibility:
    """Return whether devices of a profile can run a candidate.

    Args:
        candidate: The variant.
        profile: Where; None for any device with the newest runtime.
    """
    runtime = _runtime_there(candidate.runtime, profile)
    if runtime is None:
        found = ", ".join(profile.runtimes) if profile else ""
        return Compatibility(
            candidate.runtime, "0", (f"needs {candidate.runtime}, found {found}",)
        )
    if candidate.runtime == "reference":
        return Compatibility(runtime, str(FORMAT))
    if candidate.runtime == "onnxruntime":
        return Compatibility(runtime, _first_onnx(candidate), _onnx(candidate, profile))
    return Compatibility(
        runtime, _first_litert(candidate, runtime), _litert(candidate, runtime, profile)
    )


def _runtime_there(runtime: Runtime, profile: DeviceProfile | None) -> str | None:
    if profile is None or runtime in profile.runtimes:
        return runtime
    if runtime == "litert" and "tflite-runtime" in profile.runtimes:
        return "tflite-runtime"
    return None


def _litert(
    candidate: Candidate, runtime: str, profile: DeviceProfile | None
) -> tuple[str, ...]:
    if profile is None or runtime == "litert":
        return ()
    there = profile.runtimes[runtime]
    return tuple(
        f"{one.operator} version {one.version} needs {one.runtime}, {runtime} {there}"
        " lacks it"
        for one in read_needs(candidate.content)
        if parse(one.runtime) > parse(there)
    )


def _first_litert(candidate: Candidate, runtime: str) -> str:
    newest = max(
        (one.runtime for one in read_needs(candidate.content)),
        key=parse,
        default="1.5.0",
    )
    if runtime == "tflite-runtime":
        return newest
    is_old = parse(newest) <= parse(_LAST_TENSORFLOW)
    return _FIRST_LITERT if is_old else _VERIFIED_LITERT


def _onnx(candidate: Candidate, profile: DeviceProfile | None) -> tuple[str, ...]:
    if profile is None:
        return ()
    recipe = candidate.recipe
    found = []
    is_full = recipe.scheme == "static" and not recipe.reduce_range
    if is_full and "onnxruntime-full-range" in profile.forbids:
        found.append("weights of 8 bits saturate without VNNI")
    first, there = _first_onnx(candidate), profile.runtimes["onnxruntime"]
    if parse(first) > parse(there):
        found.append(f"its file form needs onnxruntime {first}, there is {there}")
    return tuple(found)


def _first_onnx(candidate: Candidate) -> str:
    from converter.ort.lower import read_form

    ir_version, opset = read_form(candidate.content)
    for version, (newest_ir, newest_opset) in ONNX_LIMITS.items():
        if ir_version <= newest_ir and opset <= newest_opset:
            return version
    return "99.0.0"
