# SPDX-License-Identifier: Apache-2.0
"""What the demo takes from its environment; the only module here that reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["REPOSITORY", "child_environment", "find_program", "wants_to_stay"]

REPOSITORY = Path(__file__).resolve().parents[2]

_MODULES = {
    "edge-agent": "edge_agent.cli",
    "edge-convert": "converter.cli",
    "edge-fleet": "fleet.cli",
}


def wants_to_stay() -> bool:
    """Whether `KEEP=1` asks to leave the dashboard up and the folder in place."""
    return os.environ.get("KEEP", "") not in {"", "0"}


def child_environment() -> dict[str, str]:
    """The environment of the demo's programs: ours, with training kept quiet."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def find_program(name: str) -> tuple[str, ...]:
    """The installed command beside this interpreter, or the module behind it."""
    script = Path(sys.executable).with_name(name)
    if script.exists():
        return (str(script),)
    return (sys.executable, "-m", _MODULES[name])
