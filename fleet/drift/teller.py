# SPDX-License-Identifier: Apache-2.0
"""Verdicts on the broker, for people's systems.

Owns the topic ``edge/1/{fleet}/verdict`` (docs/spec/topics.md). What was published is
noted after the broker's confirmation: a kill between the two publishes again, under the
same id. No device listens; nothing acts on it.
"""

import json

from sqlalchemy import Engine

from edge_contract.topics import verdict_topic
from fleet.drift.documents import verdict_document
from fleet.services import Bus
from fleet.store.drift import list_untold_verdicts, note_verdict_told
from fleet.store.engine import reading, writing

_AT_A_TIME = 50


class VerdictTeller:
    """Publishes each opening and closing of a verdict at least once.

    Args:
        engine: The database.
        bus: The way into the broker.
    """

    def __init__(self, engine: Engine, bus: Bus) -> None:
        self._engine = engine
        self._bus = bus

    def run(self) -> None:
        """Publish what is not told yet; stop at the first that is not confirmed."""
        with reading(self._engine) as connection:
            rows = list_untold_verdicts(connection, limit=_AT_A_TIME)
        for row in rows:
            # What was over before it could be told is told as closed only.
            event = "opened" if row["closed_us"] is None else "closed"
            document = {
                "id": f"verdict-{row['id']}-{event}",
                "event": event,
                "verdict": verdict_document(row),
            }
            topic = verdict_topic(row["fleet"])
            if not self._bus.deliver(topic, json.dumps(document).encode()):
                return
            with writing(self._engine) as connection:
                note_verdict_told(connection, row["id"], event)
