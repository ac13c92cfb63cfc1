# SPDX-License-Identifier: Apache-2.0
"""tflite-runtime 2.14, the last with wheels for 32-bit ARM, in its own environment.

Owns making that environment (it needs Python 3.11 at most and numpy below 2, so it can
never share ours) and running a model there. What runs there is ``side_worker``, by its
path: nothing of this package is imported in it.
"""

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from converter.config import cache_folder, worker_environment
from converter.errors import ConvertModelError, ConvertSideError
from converter.tensors import Float32

VERSION: Final = "2.14.0"
_PACKAGES: Final = (f"tflite-runtime=={VERSION}", "numpy>=1.26,<2")
_PYTHONS: Final = ("python3.11", "python3.10", "python3.9")
_NEWEST: Final = (3, 11)
_INSTALL_SECONDS: Final = 300
_RUN_SECONDS: Final = 300
_MAX_REASON: Final = 300


def run_there(content: bytes, frames: Float32) -> Float32:
    """Run a LiteRT file on tflite-runtime 2.14.

    Args:
        content: The model.
        frames: float32 [n, ...].

    Returns:
        float32 [n, ...].

    Raises:
        ConvertSideError: The environment cannot be made.
        ConvertModelError: That runtime refuses the model, or crashes on it.
    """
    python = prepare()
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(content)
        np.save(folder / "inputs.npy", frames, allow_pickle=False)
        worker = Path(__file__).with_name("side_worker.py")
        done = subprocess.run(  # noqa: S603 - our own file
            [str(python), "-I", str(worker), scratch],
            capture_output=True,
            check=False,
            env=worker_environment(),
            text=True,
            timeout=_RUN_SECONDS,
        )
        if done.returncode:
            reason = done.stderr.strip()[-_MAX_REASON:] or f"exit {done.returncode}"
            msg = f"tflite-runtime {VERSION} refuses the model: {reason}"
            raise ConvertModelError(msg, next_step="choose another variant there")
        outputs: Float32 = np.load(folder / "outputs.npy", allow_pickle=False)
    return outputs


def prepare() -> Path:
    """Return the interpreter of the environment, made where it is not there yet.

    Raises:
        ConvertSideError: No fitting Python, or the packages cannot be installed.
    """
    folder = cache_folder() / f"tflite-runtime-{VERSION}"
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    with _locked(folder.with_suffix(".lock")):
        if not ready.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            ready.write_text(json.dumps(_PACKAGES), encoding="utf-8")
    return python


def _make(folder: Path) -> None:
    own = sys.version_info[:2] <= _NEWEST
    names = [sys.executable] if own else [*filter(None, map(shutil.which, _PYTHONS))]
    if not names:
        msg = f"tflite-runtime {VERSION} needs Python 3.9 to 3.11, found none"
        raise ConvertSideError(
            msg, next_step="install python3.11, or --no-device-check"
        )
    try:
        if own:
            venv.create(folder, with_pip=True)
        else:
            _run([names[0], "-m", "venv", str(folder)])
        python = str(folder / "bin" / "python")
        _run([python, "-m", "pip", "install", "--quiet", *_PACKAGES])
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = str(getattr(error, "stderr", "") or error).strip()[-_MAX_REASON:]
        msg = f"tflite-runtime {VERSION} cannot be installed beside: {reason}"
        raise ConvertSideError(
            msg, next_step="check that pip can reach its index, or --no-device-check"
        ) from error


def _run(command: list[str]) -> None:
    subprocess.run(  # noqa: S603 - pip and venv of a found interpreter
        command, capture_output=True, check=True, text=True, timeout=_INSTALL_SECONDS
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        msg = f"{path.parent}: cannot be written: {error.strerror}"
        raise ConvertSideError(msg, next_step="set XDG_CACHE_HOME") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
