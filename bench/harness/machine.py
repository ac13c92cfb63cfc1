# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: processor, memory, kernel, Python.

Names nothing that tells one machine of a kind from another (no host name, no path).
"""

import os
import platform
from pathlib import Path

from bench.harness.tiles import are_refused


def describe_machine() -> dict[str, str]:
    """The facts of this machine that a reader of a figure needs."""
    tiles = {"AMX": "refused (no device has it)"} if are_refused() else {}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": read_processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_bytes / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **tiles,
    }


def read_processor() -> str:
    """The processor's name, or the architecture where the kernel gives none."""
    source = Path("/proc/cpuinfo")
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()
