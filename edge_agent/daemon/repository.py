# SPDX-License-Identifier: Apache-2.0
"""The slots as a server sees them; see ``flow.Repository``."""

from collections.abc import Mapping, Sequence

from edge_agent.daemon.slot import ModelSlot
from edge_agent.errors import FeedbackError, ModelError
from edge_agent.flow import ServedModel


class SlotRepository:
    """The production ``Repository``.

    Args:
        slots: The slots by name, in the order of the configuration.
    """

    def __init__(self, slots: Mapping[str, ModelSlot]) -> None:
        self._slots = slots

    @property
    def names(self) -> Sequence[str]:
        """The slots, in the order of the configuration."""
        return tuple(self._slots)

    def slot(self, name: str) -> ServedModel | None:
        """Return a slot by its name; None where there is none."""
        found = self._slots.get(name)
        return None if found is None else found.session

    def load(self, name: str) -> None:
        """Serve the slot's committed release again.

        Raises:
            ModelError: There is none, or it cannot serve.
        """
        self._find(name).releases.load()

    def unload(self, name: str) -> None:
        """Serve nothing in the slot until ``load``.

        Raises:
            ModelError: There is no such slot, or a release is on trial.
        """
        self._find(name).releases.unload()

    def feedback(
        self, name: str, labels: Sequence[tuple[str, str | int]]
    ) -> Mapping[str, int]:
        """Take labels for earlier answers of a slot; see ``flow.Repository``.

        Raises:
            FeedbackError: The slot takes none.
            ModelError: There is no such slot.
        """
        feedback = self._find(name).feedback
        if feedback is None:
            raise FeedbackError("off", f"models.{name}.feedback is not configured")
        return feedback.take(labels)

    def _find(self, name: str) -> ModelSlot:
        found = self._slots.get(name)
        if found is None:
            known = ", ".join(self._slots)
            msg = f"model {name!r}: expected one of {known}"
            raise ModelError(msg, next_step="name a slot of the configuration")
        return found
