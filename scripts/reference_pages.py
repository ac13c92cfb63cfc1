# SPDX-License-Identifier: Apache-2.0
"""The generated pages of docs/reference: error codes and device profiles."""

import importlib
import inspect

from converter.profiles import known_profiles, load_profile
from edge_contract.errors import EdgeError

_MODULES = (
    "edge_contract.errors",
    "converter.errors",
    "edge_agent.errors",
    "edge_agent.ota.deferral",
    "edge_agent.ota.resolve",
    "edge_agent.ota.trusted",
    "edge_agent.serve.refusals",
    "fleet.errors",
    "fleet.registry.errors",
)
_HEADER = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
# {title}

Written by `scripts/reference`: do not edit.
"""


def render_pages() -> dict[str, str]:
    """Return file name to text."""
    return {"errors.md": render_errors(), "device-profiles.md": render_profiles()}


def render_errors() -> str:
    """Return the page of error codes."""
    lines = [
        _HEADER.format(title="Errors"),
        "With `--json` a failed command prints one document with `error` (the code),",
        "`message` and `next_step`.",
        "",
        "| code | exit | meaning |",
        "| --- | --- | --- |",
    ]
    for found in sorted(find_errors(), key=lambda one: one.code):
        meaning = (inspect.getdoc(found) or "").splitlines()[0]
        lines.append(f"| `{found.code}` | {found.exit_code} | {meaning} |")
    return "\n".join(lines) + "\n"


def find_errors() -> set[type[EdgeError]]:
    """Return every class of the error tree that has a code of its own."""
    found: set[type[EdgeError]] = set()
    for name in _MODULES:
        for one in vars(importlib.import_module(name)).values():
            if inspect.isclass(one) and issubclass(one, EdgeError):
                found |= {one} if "code" in vars(one) else set()
    return found


def render_profiles() -> str:
    """Return the page of device profiles."""
    lines = [
        _HEADER.format(title="Device profiles"),
        "`edge-convert build --profile NAME` chooses a variant for each. A device",
        "takes the one of its profile where it has the runtime, else the default.",
        "",
        "| profile | boards | machine | runtimes, at least | memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    profiles = [load_profile(name) for name in known_profiles()]
    for one in profiles:
        runtimes = ", ".join(f"{name} {least}" for name, least in one.runtimes.items())
        lines.append(
            f"| `{one.name}` | {one.title} | {one.machine} | {runtimes}"
            f" | {one.memory_mib} MiB |"
        )
    for one in profiles:
        lines += ["", f"## {one.name}", ""]
        lines += [f"- {note}" for note in one.notes]
        lines += [f"- Refused there: {name}." for name in one.forbids]
    return "\n".join(lines) + "\n"
