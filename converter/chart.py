# SPDX-License-Identifier: Apache-2.0
"""A scatter picture of candidates, cost against quality, with the Pareto front.

Owns the front's rule and the drawing, as an SVG element tree. Knows nothing of builds.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree as ET

Mark = Literal["chosen", "proven", "refused"]
_WIDTH: Final = 860
_HEIGHT: Final = 420
_LEFT: Final = 64
_RIGHT: Final = 24
_TOP: Final = 20
_BOTTOM: Final = 52
_TICKS: Final = 6
_RADIUS: Final[dict[Mark, str]] = {"chosen": "7", "proven": "5", "refused": "4"}


@dataclass(frozen=True)
class Point:
    """One candidate.

    Attributes:
        name: What to call it.
        cost: Less is better.
        quality: More is better; not infinite.
        mark: How it is drawn.
        note: Shown where the pointer rests on it.
    """

    name: str
    cost: float
    quality: float
    mark: Mark
    note: str = ""


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other beats in cost and quality, by rising cost.

    >>> front = pareto_front([Point("a", 1, 5, "proven"), Point("b", 2, 4, "proven")])
    >>> [one.name for one in front]
    ['a']
    """
    front: list[Point] = []
    for one in sorted(points, key=lambda point: (point.cost, -point.quality)):
        if not front or one.quality > front[-1].quality:
            front.append(one)
    return tuple(front)


def ticks(low: float, high: float) -> tuple[float, ...]:
    """Return round values (1, 2 or 5 times a power of ten) from ``low`` to ``high``.

    >>> ticks(0.3, 9.7)
    (2.0, 4.0, 6.0, 8.0)
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return (low,)
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(
        power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= _TICKS
    )
    first, last = math.ceil(low / step), math.floor(high / step)
    return tuple(round(index * step, 9) for index in range(first, last + 1))


@dataclass(frozen=True)
class _Scale:
    """From values to positions in the picture."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def draw(points: Sequence[Point], *, cost: str, quality: str) -> ET.Element:
    """Return the picture.

    Args:
        points: At least one.
        cost: The horizontal axis's title.
        quality: The vertical axis's title.
    """
    across = _scale([one.cost for one in points], _LEFT, _WIDTH - _RIGHT, zero=True)
    up = _scale([one.quality for one in points], _HEIGHT - _BOTTOM, _TOP, zero=False)
    size = f"0 0 {_WIDTH} {_HEIGHT}"
    label = f"{quality} against {cost}, {len(points)} candidates"
    picture = ET.Element("svg", {"viewBox": size, "role": "img", "aria-label": label})
    _draw_axes(picture, across, up, cost, quality)
    front = " ".join(
        f"{across.at(one.cost)},{up.at(one.quality)}" for one in pareto_front(points)
    )
    ET.SubElement(picture, "polyline", {"class": "front", "points": front})
    drops = itertools.cycle((-10.0, 20.0))  # neighbours' names: above, then below
    for one in sorted(points, key=lambda point: point.mark == "chosen"):
        x, y = across.at(one.cost), up.at(one.quality)
        place = {"cx": str(x), "cy": str(y), "r": _RADIUS[one.mark]}
        dot = ET.SubElement(picture, "circle", {"class": one.mark, **place})
        ET.SubElement(dot, "title").text = f"{one.name}\n{one.note}"
        if one.mark == "chosen":
            _text(picture, x + 6, y + next(drops), one.name, "name")
    return picture


def _scale(values: Sequence[float], start: float, end: float, *, zero: bool) -> _Scale:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or max(1.0, abs(high) * 0.1)
    return _Scale(0.0 if zero else low - margin, high + margin, start, end)


def _draw_axes(
    picture: ET.Element, across: _Scale, up: _Scale, cost: str, quality: str
) -> None:
    for value in ticks(across.low, across.high):
        x = across.at(value)
        _line(picture, (x, _TOP), (x, _HEIGHT - _BOTTOM))
        _text(picture, x, _HEIGHT - _BOTTOM + 18, f"{value:g}", "tick middle")
    for value in ticks(up.low, up.high):
        y = up.at(value)
        _line(picture, (_LEFT, y), (_WIDTH - _RIGHT, y))
        _text(picture, _LEFT - 8, y + 4, f"{value:g}", "tick end")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    _text(picture, middle, _HEIGHT - 10, cost, "axis middle")
    turned = _text(picture, 16, (_TOP + _HEIGHT - _BOTTOM) / 2, quality, "axis middle")
    turned.set("transform", f"rotate(-90 16 {turned.get('y')})")


def _line(
    picture: ET.Element, start: tuple[float, float], end: tuple[float, float]
) -> None:
    names = ("x1", "y1", "x2", "y2")
    place = {name: str(one) for name, one in zip(names, (*start, *end), strict=True)}
    ET.SubElement(picture, "line", {"class": "grid", **place})


def _text(picture: ET.Element, x: float, y: float, text: str, kind: str) -> ET.Element:
    found = ET.SubElement(picture, "text", {"class": kind, "x": str(x), "y": str(y)})
    found.text = text
    return found
