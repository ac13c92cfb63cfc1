# SPDX-License-Identifier: Apache-2.0
"""``module:function``: data that the user's own code yields.

Owns calling it, once a pass, and saying where it failed. The function takes nothing and
yields batches: an array, a pair (x, y), or a mapping with ``x`` and what belongs beside
it. Like the training code it is trusted; who names it runs it.
"""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.data.entries import BLOCK, Sides, Values, check_finite
from converter.errors import ConvertDataError
from converter.tensors import Float32


class ModuleEntries:
    """What a function yields.

    Args:
        reference: ``module:function``; the working folder is on the path.

    Raises:
        ConvertDataError: It cannot be imported or run, or yields nothing of our form.
    """

    def __init__(self, reference: str) -> None:
        self.name = reference
        self._function = _find(reference)
        digest, count = hashlib.sha256(), 0
        sides: dict[str, list[Values]] = {}
        shape: tuple[int, ...] | None = None
        for batch in self._batches():
            values = batch.pop("x")
            shape = values.shape[1:] if shape is None else shape
            if values.shape[1:] != shape:
                msg = f"{reference}: expected entries of shape {list(shape)}"
                msg += f", found {list(values.shape[1:])} after {count}"
                raise ConvertDataError(msg, next_step="yield equal shapes")
            digest.update(np.ascontiguousarray(values).tobytes())
            count += len(values)
            for name, side in batch.items():
                sides.setdefault(name, []).append(side)
        if shape is None:
            msg = f"{reference}: expected batches of data, it yielded none"
            raise ConvertDataError(msg, next_step="yield arrays")
        self.shape, self.count, self._values_sha256 = shape, count, digest.hexdigest()
        arrays = {name: np.concatenate(parts) for name, parts in sides.items()}
        for name, array in arrays.items():
            if len(array) != count:
                msg = f"{reference}: expected {name} in each batch"
                msg += f", found {len(array)} for {count} entries"
                raise ConvertDataError(msg, next_step=f"yield {name} always or never")
        for name, array in sorted(arrays.items()):
            digest.update(name.encode() + array.tobytes())
        self.sha256, self.sides = digest.hexdigest(), Sides(arrays)

    def blocks(self) -> Iterator[Float32]:
        """Yield blocks; see ``Entries.blocks``."""
        start, digest = 0, hashlib.sha256()
        for batch in self._batches():
            values = batch["x"]
            digest.update(np.ascontiguousarray(values).tobytes())
            for at in range(0, len(values), BLOCK):
                block = values[at : at + BLOCK]
                yield check_finite(block, start, self.name)
                start += len(block)
        if start != self.count or digest.hexdigest() != self._values_sha256:
            msg = f"{self.name}: expected the same data in every pass"
            msg += f", found {start} entries after {self.count}, or other values"
            raise ConvertDataError(msg, next_step="seed it, and do not shuffle")

    def _batches(self) -> Iterator[dict[str, Values]]:
        try:
            found: Any = self._function()
            if isinstance(found, (np.ndarray, tuple, Mapping)):
                found = (found,)
            for batch in found:
                yield self._arrays(batch)
        except ConvertDataError:
            raise
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            msg = f"{self.name}: raised {type(error).__name__}: {error}{_place(error)}"
            raise ConvertDataError(msg, next_step="mend the function") from error

    def _arrays(self, batch: Any) -> dict[str, Values]:
        if isinstance(batch, Mapping):
            arrays = {str(name): np.asarray(one) for name, one in batch.items()}
        elif isinstance(batch, tuple) and len(batch) == 2:
            arrays = {"x": np.asarray(batch[0]), "y": np.asarray(batch[1])}
        else:
            arrays = {"x": np.asarray(batch)}
        values = arrays.get("x")
        if values is None or values.ndim < 2 or values.dtype.kind not in "fiu":
            found = sorted(arrays) if values is None else f"{values.dtype} x"
            msg = f"{self.name}: expected batches x [n, ...] of numbers, found {found}"
            raise ConvertDataError(msg, next_step="yield x, (x, y) or a mapping")
        if any(len(one) != len(values) for one in arrays.values() if one.ndim):
            msg = f"{self.name}: expected as many of each array as of x"
            raise ConvertDataError(msg, next_step="yield one item an entry")
        return {**arrays, "x": values.astype(np.float32)}


def _find(reference: str) -> Callable[[], Iterable[Any]]:
    module_name, _, name = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        msg = f"{reference}: cannot be imported: {type(error).__name__}: {error}"
        raise ConvertDataError(msg, next_step="check the module's name") from error
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"{reference}: expected a function {name!r} in {module_name}"
        raise ConvertDataError(msg, next_step="check its name")
    found: Callable[[], Iterable[Any]] = function
    return found


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
