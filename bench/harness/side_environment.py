# SPDX-License-Identifier: Apache-2.0
"""Tools that Edgeloop never depends on, each in an environment of its own.

Owns their versions, the making of the environments (once, in the user's cache, by pip),
and running a worker of ``bench/aside`` in one: arguments in, JSON out. It imports none
of these tools. Where pip cannot get one, its figures are left out, and said so.
"""

import fcntl
import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final, Literal

Tool = Literal["evidently", "nannyml", "whylogs"]
REQUIREMENTS: Final[dict[Tool, tuple[str, ...]]] = {
    # With pandas 3 evidently does not import, and whylogs wants numpy 1.
    "evidently": ("evidently==0.7.21", "pandas<3"),
    "nannyml": ("nannyml==0.13.1", "statsmodels"),
    "whylogs": ("whylogs==1.6.4", "pandas<3", "numpy<2"),
}
WORKERS: Final = Path(__file__).parents[1] / "aside"
_CACHE: Final = Path.home() / ".cache" / "edgeloop" / "bench"
_READY: Final = "ready"


def place_environment(tool: Tool) -> Path:
    """Return where a tool's environment is, or will be."""
    wanted = "\n".join((sys.version, *REQUIREMENTS[tool]))
    return _CACHE / f"{tool}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def make_environment(tool: Tool) -> Path | None:
    """Make a tool's environment, unless it is there; None when pip cannot."""
    folder = place_environment(tool)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _READY).exists():
            return folder
        sys.stderr.write(f"bench: installing {', '.join(REQUIREMENTS[tool])}\n")
        venv.create(folder, with_pip=True, clear=True)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet")
        done = subprocess.run(  # noqa: S603  pip of our own environment
            (*pip, *REQUIREMENTS[tool]), stdout=sys.stderr, check=False
        )
        if done.returncode:
            return None
        (folder / _READY).touch()
        return folder


def run_aside(tool: Tool, worker: str, *arguments: str | Path) -> Any:
    """Run ``bench/aside/WORKER.py`` in a tool's environment; return its JSON.

    Returns:
        None when the tool cannot be installed.

    Raises:
        RuntimeError: The worker fails.
    """
    folder = make_environment(tool)
    if folder is None:
        return None
    script = WORKERS / f"{worker}.py"
    done = subprocess.run(  # noqa: S603  our own script and environment
        [folder / "bin" / "python", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"bench/aside/{worker}.py: expected exit 0, found {done.returncode}: "
            f"{done.stderr[-500:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])
