# SPDX-License-Identifier: Apache-2.0
"""Whether a model file can be opened at all, found out where a crash costs nothing.

Owns the parent's end: a runtime's C++ reads a file of unknown origin first in a process
of its own, with limits on memory and time. The other ends are the ``probe_worker`` of
``litert`` and of ``ort``.
"""

import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from converter.config import worker_environment
from converter.errors import ConvertModelError

MAX_SECONDS: Final = 60
MAX_MEMORY_BYTES: Final = 8 * 2**30
MAX_FILE_BYTES: Final = 2**31
_EXIT_REFUSED: Final = 3
_MAX_REASON: Final = 300


def probe_apart(content: bytes, *, source: str, worker: str) -> str:
    """Open and run a model once on every kernel set, in a process apart.

    Args:
        content: A model file, or what claims to be one.
        source: What to call the model in messages.
        worker: The module to run.

    Returns:
        Empty where it can be run, else the runtime's reason.

    Raises:
        ConvertModelError: The runtime crashes on the file, or hangs.
    """
    if len(content) > MAX_FILE_BYTES:
        msg = f"{source}: {len(content)} bytes are more than a model file may have"
        raise ConvertModelError(msg, next_step="convert a smaller model")
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", worker, str(path)],
                capture_output=True,
                check=False,
                env=worker_environment(),
                preexec_fn=_limit,
                text=True,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            msg = f"{source}: the runtime did not come back in {MAX_SECONDS} s"
            raise ConvertModelError(msg, next_step="export the model again") from error
    if done.returncode == _EXIT_REFUSED:
        return done.stderr.strip().splitlines()[-1][:_MAX_REASON]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        msg = f"{source}: the runtime crashes on this file ({name})"
        raise ConvertModelError(msg, next_step="export the model again")
    if done.returncode:
        msg = f"{source}: probing failed: {done.stderr.strip()[-_MAX_REASON:]}"
        raise ConvertModelError(msg, next_step="see whether memory ran out")
    return ""


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
