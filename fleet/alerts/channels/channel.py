# SPDX-License-Identifier: Apache-2.0
"""The seam between the queue of deliveries and the ways that they go.

Owns the Protocol, and the error of an attempt that failed.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from fleet.errors import FleetError


class DeliveryError(FleetError):
    """A receiver of alerts did not take them."""

    code = "fleet.alerts.delivery"
    http_status = 502


class Channel(Protocol):
    """A way to somebody who wants to know.

    Attributes:
        name: Unique on this server; deliveries are queued under it.
        batch: Most events in one call of ``send``.
    """

    name: str
    batch: int

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events in one message and wait until they were taken.

        Args:
            events: See ``documents.event_document``; never empty.

        Raises:
            DeliveryError: They were not taken, or nobody can tell.
        """
        ...
