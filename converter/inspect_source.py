# SPDX-License-Identifier: Apache-2.0
"""Which runtimes and devices a model reaches, before any data is there.

Owns the document of ``edge-convert inspect MODEL``. It quantizes nothing and holds no
model to parity; see ``inputs``.
"""

from pathlib import Path
from typing import Any

from converter.exports import export_model, runtime_of
from converter.loaders import Source, open_source
from converter.loaders.choose import is_source
from converter.model import RUNTIMES, Runtime
from converter.profiles import known_profiles, load_profile

__all__ = ["format_source", "inspect_source", "is_source"]


def inspect_source(path: Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Return what a model is and where it can run.

    Args:
        path: A model of any kind that ``loaders`` reads.
        trust_pickle: Whether the file may run code.

    Raises:
        ConvertError: It is not a model that we read, or reaches no runtime.
    """
    with open_source(path, trust_pickle=trust_pickle) as source:
        runtimes = {one: _describe(source, one) for one in RUNTIMES}
        return {
            "model": str(path),
            "framework": source.framework,
            "toolchain": dict(source.toolchain),
            "labels": list(source.labels),
            "runtimes": runtimes,
            "profiles": {name: _reached(name, runtimes) for name in known_profiles()},
        }


def _describe(source: Source, runtime: Runtime) -> dict[str, Any]:
    reason = source.why_not(runtime)
    if reason:
        return {"reason": reason}
    model = export_model(source, runtime)
    return {
        "input": list(model.input.shape),
        "output": list(model.output.shape),
        "post": list(model.post),
        "operators": sorted(set(model.operators)),
        "bytes": len(model.content),
    }


def _reached(name: str, runtimes: dict[Runtime, dict[str, Any]]) -> list[str]:
    """Return the runtimes of a device profile that the model reaches."""
    return [
        one
        for one in load_profile(name).runtimes
        if "reason" not in runtimes[runtime_of(one)]
    ]


def format_source(found: dict[str, Any]) -> str:
    """Return an inspection as lines of text."""
    tools = ", ".join(f"{name} {one}" for name, one in found["toolchain"].items())
    by = f", read by {tools}" if tools else ""
    lines = [f"{found['model']}: {found['framework']}{by}"]
    if found["labels"]:
        lines.append(f"  labels      {', '.join(found['labels'])}")
    for name, one in found["runtimes"].items():
        if "reason" in one:
            lines.append(f"  {name:<12}no: {one['reason']}")
            continue
        post = f", then {one['post'][0]} on the device" if one["post"] else ""
        lines.append(
            f"  {name:<12}yes: {one['input']} to {one['output']}{post},"
            f" {one['bytes']} bytes of {', '.join(one['operators'])}"
        )
    for name, reached in found["profiles"].items():
        lines.append(f"  {name:<18}{', '.join(reached) or 'refused: no runtime there'}")
    return "\n".join(lines)
