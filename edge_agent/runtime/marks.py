# SPDX-License-Identifier: Apache-2.0
"""Marks on results: a slot in quarantine, and answers that want a label.

Owns which marks a result gets. The quarantine says that nobody should rely on the
slot's answers; they still come, and are still counted. It is kept in the slot's folder.
A wish for labels lasts until its answers were marked, or its time is over.
"""

import json
import logging
import random
from pathlib import Path
from typing import Final

from edge_agent.flow import Float32, Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.selection import Selector, Wish
from edge_agent.store import write_atomic

QUARANTINED: Final = "quarantined"
LABEL_WANTED: Final = "label-wanted"
_FILE: Final = "quarantine.json"
_ONE_IN: Final = 8
_LOG = logging.getLogger(__name__)


class Marks:
    """Marks the results of one slot.

    Args:
        folder: Of the slot.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._reason = _load(self._path)
        self._selector: Selector | None = None
        self._left = 0
        self._ends_us = 0
        self._random = random.SystemRandom()

    @property
    def quarantine(self) -> str | None:
        """Why the slot is in quarantine; None: it is not."""
        return self._reason

    @property
    def labels_wanted(self) -> int:
        """Answers that are still to be marked."""
        return self._left

    def set_quarantine(self, reason: str | None) -> None:
        """Put the slot into quarantine, or release it with None; durable at return.

        Raises:
            OSError: The disk refused; nothing has changed.
        """
        write_atomic(self._path, json.dumps({"reason": reason}).encode())
        self._reason = reason

    def want_labels(self, wish: Wish, model: Model, now_us: int) -> None:
        """Mark answers that a label is wanted for; a new wish replaces the one before.

        Raises:
            RequestError: The model cannot follow the rule.
        """
        selector = Selector(wish.select, model)
        self._left = 0
        self._selector = selector
        self._ends_us = now_us + wish.seconds * 1_000_000
        self._left = wish.frames

    def settle(self, now_us: int) -> None:
        """End a wish whose time is over; called about once a second."""
        if self._left and now_us >= self._ends_us:
            self._left = 0

    def mark(self, data: Float32, raw: Result, told: Result) -> None:
        """Mark one result on its way to the sinks.

        Args:
            data: float32, its frame.
            raw: What the model said.
            told: What the sinks get.
        """
        if self._reason is not None:
            told.marks = (QUARANTINED,)
        if self._left and self._is_wanted(data, raw):
            self._left -= 1
            told.marks = (*told.marks, LABEL_WANTED)

    def _is_wanted(self, data: Float32, result: Result) -> bool:
        selector, output = self._selector, result.output
        if selector is None or output is None or result.digest != selector.digest:
            return False
        if selector.rule == "random":
            return self._random.randrange(_ONE_IN) == 0
        return selector.is_striking(data, output)


def _load(path: Path) -> str | None:
    try:
        reason = json.loads(path.read_bytes())["reason"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("%s: cannot be read, taken as a quarantine: %s", path, error)
        return "the state of the quarantine is damaged"
    return None if reason is None else str(reason)
