# SPDX-License-Identifier: Apache-2.0
"""Sinks by the types that the configuration names.

Owns the choice. Each outlet is behind a queue of its own. What an outlet needs is
imported only where it is chosen.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from edge_agent.config.sinks import (
    FileSinkConfig,
    MqttSinkConfig,
    SinkConfig,
    SqliteSinkConfig,
    StdoutSinkConfig,
    WebhookSinkConfig,
)
from edge_agent.flow import Sink
from edge_agent.sinks.fan_out import FanOut
from edge_agent.sinks.queued import BATCH, Outlet, QueuedSink

KNOWN: Final = ("file", "stdout", "mqtt", "sqlite", "webhook")


def open_sinks(configs: Sequence[SinkConfig]) -> Sink:
    """Open sinks as one; with none, results are kept nowhere.

    Raises:
        SinkError: One cannot be opened.
        LinkError: A broker or server cannot be spoken to in this way.
        PluginError: Nothing brings a sink of this type.
    """
    sinks: dict[str, Sink] = {}
    with ExitStack() as undo:
        for number, one in enumerate(configs):
            name = one.type if one.type not in sinks else f"{one.type}-{number}"
            outlet, batch = _open_outlet(one)
            sink = QueuedSink(name, outlet, one.queue, batch=batch)
            undo.callback(sink.close)
            sinks[name] = sink
        undo.pop_all()
    return FanOut(sinks)


def _open_outlet(config: SinkConfig) -> tuple[Outlet, int]:
    """Return an outlet, and how many results it takes at once."""
    match config:
        case FileSinkConfig():
            from edge_agent.sinks.file import FileOutlet

            return FileOutlet(config), BATCH
        case StdoutSinkConfig():
            from edge_agent.sinks.stdout import StdoutOutlet

            return StdoutOutlet(), BATCH
        case MqttSinkConfig():
            from edge_agent.sinks import mqtt

            return mqtt.MqttOutlet(config), mqtt.BATCH
        case SqliteSinkConfig():
            from edge_agent.sinks.sqlite import SqliteOutlet

            return SqliteOutlet(config), BATCH
        case WebhookSinkConfig():
            from edge_agent.sinks.webhook import WebhookOutlet

            return WebhookOutlet(config), config.batch
        case _:
            from edge_agent.sinks.plugin import PluginOutlet

            return PluginOutlet(config, KNOWN), BATCH
