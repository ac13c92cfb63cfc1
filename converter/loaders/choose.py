# SPDX-License-Identifier: Apache-2.0
"""Which loader reads a path, and the digest that names its content."""

import hashlib
from pathlib import Path

from converter.errors import ConvertModelError, ConvertTrustError
from converter.loaders.framework import FrameworkSource
from converter.loaders.litert import LitertSource
from converter.loaders.source import Source
from edge_contract.canonical import sha256_hex

_KERAS = {".keras": b"PK\x03\x04", ".h5": b"\x89HDF", ".hdf5": b"\x89HDF"}


_PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
_TORCH_PICKLES = frozenset({".pt", ".pth"})
_TORCH_EXPORT = (
    "torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')"
)
_FRAMEWORKS = {**dict.fromkeys((*_PICKLES, ".skops"), "sklearn"), ".pt2": "torch"}
_KINDS = ".keras, .h5, .tflite, .onnx, .pt2, .skops, .joblib or a SavedModel"


def open_source(path: Path, *, trust_pickle: bool = False) -> Source:
    """Open a source model.

    Args:
        path: A file, or the folder of a SavedModel.
        trust_pickle: Whether a file may be read that can run any code.

    Raises:
        ConvertModelError: Nothing there, or not a model of a kind that we read.
        ConvertLoaderError: Its framework is not installed or failed.
        ConvertTrustError: It can run code, and nobody said that it may.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return FrameworkSource(path, "savedmodel")
        msg = f"{path.name}: expected a SavedModel folder, found no saved_model.pb"
        raise ConvertModelError(msg, next_step="pass the folder that was exported")
    if not path.is_file():
        msg = f"{path}: expected a model, found no such file"
        raise ConvertModelError(msg, next_step="check the path")
    suffix = path.suffix.lower()
    _check_trust(path, suffix, trust_pickle=trust_pickle)
    if suffix == ".tflite":
        return LitertSource(path)
    if suffix == ".onnx":
        # Imported here: a LiteRT source must not pay for ONNX.
        from converter.loaders.onnx import OnnxSource

        return OnnxSource(path)
    if suffix in _FRAMEWORKS:
        kind = _FRAMEWORKS[suffix]
        return FrameworkSource(path, kind, trust_pickle=trust_pickle)
    return _open_keras(path, suffix)


def is_source(path: Path) -> bool:
    """Return whether a path has the form of a model that ``open_source`` reads."""
    known = {".tflite", ".onnx", *_FRAMEWORKS, *_KERAS, *_TORCH_PICKLES}
    return path.is_dir() or path.suffix.lower() in known


def _check_trust(path: Path, suffix: str, *, trust_pickle: bool) -> None:
    if suffix in _TORCH_PICKLES:
        msg = f"{path.name}: expected what torch.export wrote, found a pickle"
        raise ConvertModelError(msg, next_step=_TORCH_EXPORT)
    if suffix in _PICKLES and not trust_pickle:
        msg = f"{path.name}: a pickle runs whatever code its author put in"
        next_step = "save it with skops.io.dump, or pass --trust-pickle if it is yours"
        raise ConvertTrustError(msg, next_step=next_step)


def _open_keras(path: Path, suffix: str) -> Source:
    if suffix not in _KERAS:
        msg = f"{path.name}: expected {_KINDS}"
        raise ConvertModelError(msg, next_step="export the model to one of these")
    with path.open("rb") as stream:
        head = stream.read(4)
    if head != _KERAS[suffix]:
        msg = f"{path.name}: expected a {suffix} file, found a file that starts"
        msg += f" with {head!r}"
        raise ConvertModelError(msg, next_step="save the model again")
    return FrameworkSource(path, "keras")


def source_digest(path: Path) -> str:
    """Return the SHA-256 of a model file, or of a folder's files in sorted order."""
    if path.is_file():
        return sha256_hex(path.read_bytes())
    digest = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
