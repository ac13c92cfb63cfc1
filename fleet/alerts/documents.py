# SPDX-License-Identifier: Apache-2.0
"""An alert as JSON values.

Owns the one form in which an alert leaves the server: REST, webhook, topic. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

Event = Literal["opened", "closed"]
_NAMES: Final = (
    "id",
    "rule",
    "fleet",
    "subject",
    "device",
    "level",
    "title",
    "next_step",
    "link",
    "began_us",
    "opened_us",
    "closed_us",
    "close_reason",
    "acked_us",
    "acked_by",
)


def alert_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``alerts`` as JSON values."""
    return {name: row[name] for name in _NAMES}


def event_document(row: Mapping[str, Any], event: Event) -> dict[str, Any]:
    """Return what happened to an alert; ``id`` is the same however often it is sent."""
    return {
        "id": f"alert-{row['id']}-{event}",
        "event": event,
        "alert": alert_document(row),
    }
