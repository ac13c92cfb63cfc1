# SPDX-License-Identifier: Apache-2.0
"""The sampler: frames of one slot, collected because the fleet asked for them.

Owns one request at a time. Nothing is kept while nobody asks. The hot path pays for one
copy of a frame while a request is open; what is worth keeping is decided on another
thread. Consent, the byte budget and sending are not its matter.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from edge_agent.errors import RequestError
from edge_agent.flow import Float32, Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.selection import Selector, Wish

MAX_QUEUE: Final = 16
MAX_HELD_BYTES: Final = 4 * 1024 * 1024
SPACING_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """One frame that was picked.

    Attributes:
        id: Of its answer.
        digest: The release that gave it.
        data: float32, as it was given.
    """

    id: str
    digest: str
    data: Float32


@dataclass(slots=True, eq=False)
class _Open:
    wish: Wish
    selector: Selector
    ends_us: int
    queue: deque[tuple[Float32, Result]] = field(default_factory=deque)
    picked: list[Picked] = field(default_factory=list)
    held_bytes: int = 0
    candidates: int = 0
    last_us: int | None = None


class Sampler:
    """Collects frames; a ``Watcher``. One thread asks and polls."""

    def __init__(self) -> None:
        self._open: _Open | None = None
        self._random = random.SystemRandom()

    @property
    def is_open(self) -> bool:
        """Whether a request is being answered."""
        return self._open is not None

    def begin(self, wish: Wish, model: Model, now_us: int) -> None:
        """Start to collect.

        Args:
            wish: What is asked for.
            model: The one that serves; frames of another do not count.
            now_us: The time, of a clock that never goes back.

        Raises:
            RequestError: Another request is open, or the model cannot follow the rule.
        """
        if self._open is not None:
            raise RequestError("samples: expected one request at a time, found two")
        selector = Selector(wish.select, model)
        self._open = _Open(wish, selector, now_us + wish.seconds * 1_000_000)

    def saw(self, data: Float32, result: Result) -> None:
        """Take a copy of a frame while one is wanted; see ``Watcher.saw``."""
        one = self._open
        if one is None or result.output is None or len(one.queue) >= MAX_QUEUE:
            return
        if result.digest == one.selector.digest:
            one.queue.append((data.copy(), result))

    def poll(self, now_us: int) -> list[Picked] | None:
        """Look at what was seen; return the frames once the request is at its end.

        Args:
            now_us: The time, of a clock that never goes back.

        Returns:
            None while it is open; else what was picked, perhaps nothing.
        """
        one = self._open
        if one is None:
            return None
        for _ in range(len(one.queue)):
            data, result = one.queue.popleft()
            self._consider(one, data, result)
        is_random = one.wish.select == "random"
        is_full = len(one.picked) >= one.wish.frames and not is_random
        if now_us < one.ends_us and not is_full:
            return None
        self._open = None
        return one.picked

    def _consider(self, one: _Open, data: Float32, result: Result) -> None:
        picked = Picked(result.id, result.digest, data)
        if one.wish.select == "random":
            self._draw(one, picked)
            return
        is_soon = (
            one.last_us is not None and abs(result.time_us - one.last_us) < SPACING_US
        )
        if is_soon or len(one.picked) >= one.wish.frames or not _fits(one, data):
            return
        output = result.output
        if output is not None and one.selector.is_striking(data, output):
            one.last_us = result.time_us
            one.held_bytes += data.nbytes
            one.picked.append(picked)

    def _draw(self, one: _Open, picked: Picked) -> None:
        """Keep each frame with the same chance (Vitter's reservoir, algorithm R)."""
        one.candidates += 1
        if len(one.picked) < one.wish.frames and _fits(one, picked.data):
            one.held_bytes += picked.data.nbytes
            one.picked.append(picked)
            return
        place = self._random.randrange(one.candidates)
        if place < len(one.picked):
            one.picked[place] = picked


def _fits(one: _Open, data: Float32) -> bool:
    return one.held_bytes + data.nbytes <= MAX_HELD_BYTES
