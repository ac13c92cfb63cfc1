# SPDX-License-Identifier: Apache-2.0
"""Alerts on the broker, one message an event, for people's systems.

Owns the topic ``edge/1/{fleet}/alert``. Alerts that concern no fleet alone go to each.
"""

import json
from collections.abc import Sequence
from typing import Any

from edge_contract.topics import alert_topic
from fleet.alerts.channels.channel import DeliveryError
from fleet.services import Bus


class TopicChannel:
    """Implements ``Channel`` over MQTT.

    Args:
        bus: The way into the broker.
        fleets: All fleets of the server.
    """

    name = "topic"
    batch = 1

    def __init__(self, bus: Bus, fleets: Sequence[str]) -> None:
        self._bus = bus
        self._fleets = tuple(fleets)

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Publish events and wait for the broker's confirmations.

        Raises:
            DeliveryError: The broker did not confirm one.
        """
        for event in events:
            fleet = event["alert"]["fleet"]
            payload = json.dumps(event).encode()
            for one in self._fleets if fleet == "*" else (fleet,):
                if not self._bus.deliver(alert_topic(one), payload):
                    message = f"topic of {one}: expected the broker's confirmation"
                    raise DeliveryError(message, next_step="check the broker")
