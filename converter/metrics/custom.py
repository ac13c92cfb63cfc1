# SPDX-License-Identifier: Apache-2.0
"""A metric of the user's own: a function in a Python file.

Owns loading it and saying where it failed. It is trusted like the model's training
code: who names it on the command line runs it.
"""

import importlib.util
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from converter.errors import ConvertMetricError
from converter.metrics.comparison import Truth
from converter.tensors import Float32

Function = Callable[[Float32, Truth], Any]


class CustomFunction:
    """``FILE.py:FUNCTION``: called with outputs and truth, returns a number.

    Raises:
        ConvertMetricError: No such file or function, or the file cannot be run.
    """

    def __init__(self, reference: str) -> None:
        path, _, name = reference.rpartition(":")
        self._name = reference
        self._file = Path(path)
        function = getattr(self._load(), name, None)
        if not callable(function):
            msg = f"--metric {reference}: expected a function {name!r} in {path}"
            raise ConvertMetricError(msg, next_step="check its name")
        self._function: Function = function

    def __call__(self, outputs: Float32, truth: Truth) -> float:
        """Return the metric; higher is better.

        Raises:
            ConvertMetricError: It raised, or returned no finite number.
        """
        try:
            value = float(self._function(outputs, truth))
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise self._failed("raised", error) from error
        if not math.isfinite(value):
            msg = f"--metric {self._name}: expected a finite number, found {value}"
            raise ConvertMetricError(msg, next_step="look for a division by zero")
        return value

    def _load(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("edge_convert_metric", self._file)
        if spec is None or spec.loader is None or not self._file.is_file():
            msg = f"--metric {self._name}: expected FILE.py:FUNCTION, no such file"
            raise ConvertMetricError(msg, next_step="check the path")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise self._failed("cannot be loaded: it raised", error) from error
        return module

    def _failed(self, how: str, error: BaseException) -> ConvertMetricError:
        frames = traceback.extract_tb(error.__traceback__)
        own = [one for one in frames if Path(one.filename) == self._file]
        at = f" at {self._file.name}:{own[-1].lineno}" if own else ""
        msg = f"--metric {self._name}: {how} {type(error).__name__}: {error}{at}"
        return ConvertMetricError(msg, next_step="mend the function")
