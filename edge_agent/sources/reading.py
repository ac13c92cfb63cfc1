# SPDX-License-Identifier: Apache-2.0
"""Messages from outside, parsed into readings with suspicion.

Owns the forms (docs/reference/sources-and-sinks.md): JSON, lines of CSV, and raw
float32. A missing value is ``null``, ``NaN`` or an empty cell, and becomes NaN; a value
that is no finite float32 otherwise is refused. What order readings come in is
``intake``'s matter.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.flow import Float32

MAX_TEXT: Final = 256
EARLIEST_US: Final = 946_684_800_000_000  # 2000-01-01
LATEST_US: Final = 4_102_444_800_000_000  # 2100-01-01
_LARGEST: Final = float(np.finfo(np.float32).max)
_CONSTANTS: Final[Mapping[str, float]] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
_NOT_FEATURES: Final = {"id", "t", "stream", "recording", "y", "group"}
_NEXT_STEP: Final = "see docs/reference/sources-and-sinks.md for the forms"


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one message says.

    Attributes:
        rows: float32 [n, C], NaN where a value is missing.
        stream: Which stream it belongs to.
        id: What the sender calls it; empty where it has no name.
        time_us: When it was measured, microseconds since the epoch; None: not said.
        is_flat: Whether its one row may be several of the model's, one after another.
    """

    rows: Float32
    stream: str
    id: str = ""
    time_us: int | None = None
    is_flat: bool = False


def parse_json(data: bytes, fields: Sequence[str], stream: str) -> Reading:
    """Parse a JSON message.

    Args:
        data: An array of numbers (a row), an array of such arrays (rows), or an object
            with such an array under ``x``, or with a number under each of ``fields``;
            and perhaps ``id``, ``t`` and ``stream``.
        fields: Names of the values of a row, in the model's order.
        stream: The stream where the message names none.

    Raises:
        SourceError: Another form.
    """
    try:
        found = json.loads(data, parse_constant=_CONSTANTS.__getitem__)
    except (ValueError, RecursionError) as error:
        raise _refused("JSON", str(error)) from error
    if isinstance(found, list):
        return Reading(_rows(found), stream)
    if not isinstance(found, dict):
        raise _refused("a JSON array or object", found)
    if "x" in found:
        values = found["x"]
        if not isinstance(values, list):
            raise _refused("an array under x", values)
    elif fields:
        values = [found.get(name) for name in fields]
        if not any(name in found for name in fields):
            raise _refused(f"an object with {', '.join(fields)}", sorted(found)[:8])
    else:
        raise _refused("an object with x, or a source with fields", sorted(found)[:8])
    return Reading(
        _rows(values),
        _text(found.get("stream"), "stream") or stream,
        _text(found.get("id"), "id"),
        _time_us(found.get("t")),
    )


def parse_float32(data: bytes, stream: str) -> Reading:
    """Parse raw float32 values, little-endian: one row, or several.

    Raises:
        SourceError: No whole values, or infinite ones.
    """
    if not data or len(data) % 4:
        raise _refused("a multiple of 4 bytes of float32", f"{len(data)} bytes")
    values = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if np.isinf(values).any():
        raise _refused("finite values", "an infinite one")
    return Reading(values.reshape(1, -1), stream, is_flat=True)


class CsvForm:
    """Lines of CSV under one header.

    ``id``, ``t`` and ``stream`` (or ``recording``) are what they say, ``y`` and
    ``group`` are passed over, every other column is a value of the row.

    Args:
        header: The first line.
        stream: The stream of lines that name none.

    Raises:
        SourceError: No header of different names, with a value among them.
    """

    def __init__(self, header: bytes, stream: str) -> None:
        self._names = [one.strip() for one in _cells(header)]
        self._stream = stream
        self._values = [
            place for place, name in enumerate(self._names) if name not in _NOT_FEATURES
        ]
        if len(set(self._names)) != len(self._names) or not self._values:
            expected = "a header of different names, with values among them"
            raise _refused(expected, self._names[:8])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the values of a row."""
        return tuple(self._names[place] for place in self._values)

    def parse(self, line: bytes) -> Reading:
        """Parse a line.

        Raises:
            SourceError: Another number of cells, or a cell that is no number.
        """
        cells = _cells(line)
        if len(cells) != len(self._names):
            raise _refused(f"{len(self._names)} cells", f"{len(cells)}")
        named = dict(zip(self._names, cells, strict=True))
        stream = named.get("stream") or named.get("recording")
        time = named.get("t")
        return Reading(
            _rows([_cell(cells[place]) for place in self._values]),
            _text(stream, "stream") or self._stream,
            _text(named.get("id"), "id"),
            _time_us(_time_cell(time) if time else None),
        )


def _cells(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8").rstrip("\r\n")], strict=True), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise _refused("a line of CSV in UTF-8", str(error)) from error


def _cell(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise _refused("numbers", text) from error


def _time_cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _rows(values: list[Any]) -> Float32:
    rows = values if values and isinstance(values[0], list) else [values]
    width = len(rows[0])
    if not width or any(not isinstance(one, list) for one in rows):
        raise _refused("a row of numbers, or rows", values[:4])
    if any(len(one) != width for one in rows):
        raise _refused(f"rows of {width} values", "rows of several lengths")
    flat = [value for row in rows for value in row]
    for value in flat:
        if value is not None and type(value) not in {int, float}:
            raise _refused("numbers or null", value)
    try:
        exact = np.array(
            [math.nan if value is None else value for value in flat], dtype=np.float64
        )
    except OverflowError as error:
        raise _refused("numbers that fit float32", str(error)) from error
    if (np.abs(exact) > _LARGEST).any():
        raise _refused("numbers that fit float32", "a larger one")
    return exact.astype(np.float32).reshape(len(rows), width)


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
        raise _refused(f"a text of up to {MAX_TEXT} characters as {name}", value)
    return text


def _time_us(value: Any) -> int | None:
    """Read seconds since the epoch, or RFC 3339 with its offset."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            seconds = moment.timestamp() if moment.tzinfo else math.nan
        else:
            seconds = math.nan if isinstance(value, bool) else float(value)
        found = round(seconds * 1e6)
    except (TypeError, ValueError, OverflowError):
        found = -1
    if not EARLIEST_US <= found < LATEST_US:
        now = datetime.fromtimestamp(1_800_000_000, UTC).isoformat()
        expected = f"t as seconds since the epoch, or like {now}, in this century"
        raise _refused(expected, value)
    return found


def _refused(expected: str, found: Any) -> SourceError:
    msg = f"message: expected {expected}, found {str(found)[:80]!r}"
    return SourceError(msg, next_step=_NEXT_STEP)
