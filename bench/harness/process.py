# SPDX-License-Identifier: Apache-2.0
"""What another process costs: memory as the kernel counts it.

PSS shares a page among all processes that map it, those of a measurement and of its
neighbours too. ``alone`` is what it would be where no other program of Python runs:
only the system's own libraries stay shared.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_KIB: Final = 1024
_SYSTEM: Final = ("/usr/lib/", "/lib/")
_MAPPING: Final = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")


@dataclass(frozen=True)
class Memory:
    """Memory of a process in MiB; see above."""

    pss: float
    rss: float
    alone: float


def read_memory(pid: int) -> Memory:
    """Return what a live process takes now (/proc/PID/smaps).

    Raises:
        OSError: There is no such process, or no such file.
    """
    return parse_memory(Path(f"/proc/{pid}/smaps").read_text())


def parse_memory(text: str) -> Memory:
    """Return what an smaps says."""
    pss = rss = alone = 0
    is_system = False
    for line in text.splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            is_system = mapping.group(1).startswith(_SYSTEM)
            continue
        name, _, rest = line.partition(":")
        if name == "Pss":
            pss += int(rest.split()[0])
            alone += int(rest.split()[0]) if is_system else 0
        elif name == "Rss":
            rss += int(rest.split()[0])
            alone += 0 if is_system else int(rest.split()[0])
    return Memory(pss / _KIB, rss / _KIB, alone / _KIB)


def run_python(code: str, *arguments: str) -> str:
    """Run code in an interpreter of its own and return what it prints.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child's
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"child: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def as_installed(folder: Path) -> dict[str, str]:
    """Return an environment in which modules are read compiled, as pip leaves them.

    What compiles its modules itself keeps a part of the memory that it took.

    Args:
        folder: Where the first run leaves them for the next.
    """
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


def idle_memory(code: str, **environment: str) -> Memory:
    """Return what an interpreter takes once it has run ``code`` and waits."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()"],
        cwd=ROOT,
        env={**os.environ, **environment},  # noqa: TID251 - a child's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        if child.stdout is None or child.stdout.readline() != "ready\n":
            raise RuntimeError(f"child: {code!r} failed; its messages are above")
        time.sleep(0.2)
        memory = read_memory(child.pid)
        child.communicate("\n")
    return memory
