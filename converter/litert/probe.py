# SPDX-License-Identifier: Apache-2.0
"""Whether a LiteRT file can be opened at all, found out where a crash costs nothing.

Owns the parent's end: the runtime's C++ reads a file of unknown origin first in a
process of its own, with limits on memory and time. The other end is ``probe_worker``.
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


def probe(content: bytes, *, source: str) -> None:
    """Open, allocate and run a model once on every kernel set, in a process apart.

    Args:
        content: A LiteRT flatbuffer, or what claims to be one.
        source: What to call the model in messages.

    Raises:
        ConvertModelError: The runtime refuses the file, crashes on it, or hangs.
    """
    if len(content) > MAX_FILE_BYTES:
        msg = f"{source}: {len(content)} bytes are more than a LiteRT file can have"
        raise ConvertModelError(msg, next_step="convert a smaller model")
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", "converter.litert.probe_worker", str(path)],
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
        reason = done.stderr.strip().splitlines()[-1][:_MAX_REASON]
        if "custom op" in reason or "Select TensorFlow op" in reason:
            return  # it was read without harm; `normalise` names all of them
        msg = f"{source}: the runtime refuses this file: {reason}"
        raise ConvertModelError(msg, next_step=_advice(reason))
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        msg = f"{source}: the runtime crashes on this file ({name})"
        raise ConvertModelError(msg, next_step="export the model again")
    if done.returncode:
        msg = f"{source}: probing failed: {done.stderr.strip()[-_MAX_REASON:]}"
        raise ConvertModelError(msg, next_step="see whether memory ran out")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))


def _advice(reason: str) -> str:
    if "quantiz" in reason:
        return "its quantization is of an older form: quantize the float model anew"
    return "export the model again"
