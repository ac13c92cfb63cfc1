# SPDX-License-Identifier: Apache-2.0
"""The environment in which framework subprocesses run.

The only module of the converter that reads the environment. It decides nothing about a
build; options come from the command line.
"""

import os
from pathlib import Path

_WORKER = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def cache_folder() -> Path:
    """Return where environments that can be made again are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgeloop"


def torch_python() -> str:
    """Return the interpreter that has PyTorch, where that is not this one.

    PyTorch is large and seldom shares its versions with anything: it may live in an
    environment of its own, named by ``EDGE_CONVERT_TORCH_PYTHON``.
    """
    return os.environ.get("EDGE_CONVERT_TORCH_PYTHON", "")


def silence_onnxruntime() -> None:
    """Keep ONNX Runtime from reporting to its maker; to be called before its import.

    Its wheels for Linux make a device id and look up their maker's host when they are
    imported (seen with 1.32).
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def worker_environment() -> dict[str, str]:
    """Return our environment with what makes a framework quiet and deterministic."""
    return {**os.environ, **_WORKER}
