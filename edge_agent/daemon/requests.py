# SPDX-License-Identifier: Apache-2.0
"""What the fleet may ask of one slot: frames, labels, quarantine.

Owns how such a request is answered or refused. Sending is the command desk's matter,
consent too; which frames are picked is ``runtime``'s.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.clock import Clock
from edge_agent.daemon.feedback import Feedback
from edge_agent.errors import RequestError
from edge_agent.runtime.marks import Marks
from edge_agent.runtime.model import Model
from edge_agent.runtime.sampler import Picked, Sampler
from edge_agent.runtime.selection import MAX_REASON, Wish
from edge_agent.runtime.session import Session
from edge_contract.wire import Scalar

_FRAMES: Final = "frames-*.npz"
NO_LABEL: Final = -1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlotRequests:
    """Answers requests about one slot. One thread asks.

    Attributes:
        slot: The slot's name.
        folder: Of the slot; picked frames wait there until they are sent.
        session: Knows the model that serves.
        sampler: Picks frames.
        marks: Marks results.
        feedback: Takes labels; None: nobody labels here.
        clock: The time.
    """

    slot: str
    folder: Path
    session: Session
    sampler: Sampler
    marks: Marks
    feedback: Feedback | None
    clock: Clock

    def collect(self, arguments: Mapping[str, Any]) -> None:
        """Start to pick frames.

        Raises:
            RequestError: Not now, or not on this slot.
        """
        wish = Wish.parse(arguments)
        self.sampler.begin(wish, self._model(), self.clock.monotonic_us())
        _LOG.info(
            "models.%s: %d frames (%s) are asked for: %s",
            *(self.slot, wish.frames, wish.select, wish.reason),
        )

    def collected(self) -> Path | None:
        """Return the file of picked frames once they are all there; else None.

        Raises:
            RequestError: No frame was like that.
            OSError: The disk refused.
        """
        picked = self.sampler.poll(self.clock.monotonic_us())
        if picked is None:
            return None
        if not picked:
            raise RequestError(f"models.{self.slot}: no frame was like that in time")
        path = self.folder / _FRAMES.replace("*", secrets.token_hex(4))
        with path.open("wb") as stream:
            np.savez(stream, **self._to_arrays(picked))
        return path

    def tidy(self) -> None:
        """Delete picked frames that an earlier run has left behind."""
        for path in self.folder.glob(_FRAMES):
            path.unlink(missing_ok=True)

    def want_labels(self, arguments: Mapping[str, Any]) -> dict[str, Scalar]:
        """Have answers marked that a label is wanted for.

        Raises:
            RequestError: Nobody labels on this slot, or it cannot follow the rule.
        """
        if self.feedback is None:
            msg = f"models.{self.slot}.feedback is not configured: nobody labels here"
            raise RequestError(msg)
        wish = Wish.parse(arguments)
        self.marks.want_labels(wish, self._model(), self.clock.monotonic_us())
        _LOG.warning(
            "models.%s: labels are wanted for %d answers (%s), marked in the results: "
            "%s",
            *(self.slot, wish.frames, wish.select, wish.reason),
        )
        return {"slot": self.slot, "frames": wish.frames, "seconds": wish.seconds}

    def quarantine(self, arguments: Mapping[str, Any]) -> dict[str, Scalar]:
        """Put the slot into quarantine, or out of it.

        Raises:
            RequestError: Malformed.
            OSError: The disk refused.
        """
        on, reason = arguments.get("on"), arguments.get("reason", "")
        if type(on) is not bool:
            raise RequestError(f"on: expected true or false, found {on!r}")
        if not isinstance(reason, str) or len(reason) > MAX_REASON:
            raise RequestError(f"reason: expected a text of up to {MAX_REASON}")
        self.marks.set_quarantine((reason or "asked by the fleet") if on else None)
        words = "in quarantine: " if on else "out of quarantine: "
        _LOG.warning("models.%s: %s%s", self.slot, words, reason)
        return {"slot": self.slot, "on": on, "results": "marked" if on else "unmarked"}

    def look(self, now_us: int) -> None:
        """End what is over, about once a second."""
        self.marks.settle(now_us)

    def describe(self) -> dict[str, Any]:
        """Return what is asked of the slot now, for the status."""
        return {
            "quarantine": self.marks.quarantine,
            "labels_wanted": self.marks.labels_wanted,
            "is_sampling": self.sampler.is_open,
        }

    def _model(self) -> Model:
        model = self.session.model
        if model is None:
            raise RequestError(f"models.{self.slot}: no model serves")
        return model

    def _to_arrays(self, picked: list[Picked]) -> dict[str, Any]:
        """Return rows, a recording a frame, and labels where any came."""
        frames = [one.data.reshape(-1, one.data.shape[-1]) for one in picked]
        names = [f"{place}-{one.id}"[:64] for place, one in enumerate(picked)]
        counts = [len(one) for one in frames]
        arrays = {"x": np.concatenate(frames), "recording": np.repeat(names, counts)}
        labels = [self._label_of(one) for one in picked]
        if any(one != NO_LABEL for one in labels):
            arrays["y"] = np.repeat(np.array(labels, dtype=np.int32), counts)
        return arrays

    def _label_of(self, picked: Picked) -> int:
        if self.feedback is None:
            return NO_LABEL
        label = self.feedback.book.label_of(picked.id, picked.digest)
        return NO_LABEL if label is None else label
