# SPDX-License-Identifier: Apache-2.0
"""The result of a measurement, and its JSON form.

Owns ``Document`` and ``Row``. A row states a figure with its unit, the baseline that
was measured in the same run, and, where a figure was promised, the promise and whether
it holds. It does not measure.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.harness.machine import describe_machine


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        case: What was measured, in a few words.
        value: The figure (a median, where there were several runs).
        unit: Its unit.
        baseline: The figure it is compared with, measured in the same run, or None.
        ratio: value / baseline, or None.
        n: The number of repetitions behind the value.
        spread: Half the distance between the quartiles, in the unit.
        asked: What was promised, as text (``"<= 1.05"``), or None.
        holds: Whether it was kept, or None where nothing was promised.
    """

    case: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    n: int = 1
    spread: float = 0.0
    asked: str | None = None
    holds: bool | None = None


@dataclass(frozen=True)
class Document:
    """What one measurement says, and about which machine."""

    name: str
    rows: tuple[Row, ...]
    machine: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether every promise in it was kept."""
        return all(row.holds is not False for row in self.rows)


def make_document(name: str, rows: Sequence[Row]) -> Document:
    """A document about the machine that this process runs on."""
    return Document(name=name, rows=tuple(rows), machine=describe_machine())


def summarise(samples: Sequence[float]) -> tuple[float, int, float]:
    """Median, number and half the interquartile distance of repetitions.

    Raises:
        ValueError: There are no samples.

    >>> summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    (3.0, 5, 1.0)
    """
    if not samples:
        raise ValueError("samples: expected at least one, found none; measure first")
    if len(samples) == 1:
        return samples[0], 1, 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return statistics.median(samples), len(samples), (high - low) / 2


def format_document(document: Document) -> str:
    """The JSON text of a document."""
    return json.dumps(asdict(document), indent=2, allow_nan=False)


def parse_document(text: str) -> Document:
    """The document in a JSON text written by ``format_document``.

    Raises:
        ValueError: The text is no such document.
    """
    try:
        value: dict[str, Any] = json.loads(text)
        rows = tuple(Row(**row) for row in value["rows"])
        return Document(name=value["name"], rows=rows, machine=value["machine"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"measurement: expected a JSON document with name, rows and machine, "
            f"found {text[:80]!r} ({error}); let the module print only its document"
        ) from error


def write_document(document: Document) -> None:
    """Print a document: for ``python -m bench.NAME``."""
    sys.stdout.write(format_document(document) + "\n")
