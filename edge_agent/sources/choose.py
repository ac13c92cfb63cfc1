# SPDX-License-Identifier: Apache-2.0
"""A source by the type that the configuration names.

Owns the choice, and how event time of a replayed file begins: at a multiple of the
window's length, so that windows hold whole frames however late the agent starts. What a
source needs is imported only where it is chosen.
"""

from typing import Final

from edge_agent.clock import Clock
from edge_agent.config.sources import (
    CameraSourceConfig,
    FileSourceConfig,
    MqttSourceConfig,
    SensorsSourceConfig,
    SourceConfig,
    StdinSourceConfig,
)
from edge_agent.flow import Source
from edge_agent.sources.file import FileSource, ReplayOptions

KNOWN: Final = ("file", "stdin", "mqtt", "sensors", "camera")


def open_source(config: SourceConfig, window_us: int, clock: Clock) -> Source:
    """Open a source.

    Raises:
        SourceError: It cannot be opened.
        LinkError: A broker cannot be spoken to in this way.
        PluginError: Nothing brings a source of this type.
    """
    match config:
        case FileSourceConfig():
            now_us = clock.wall_us()
            origin_us = now_us - now_us % window_us
            return FileSource(config.path, _replay_options(config), origin_us)
        case StdinSourceConfig():
            from edge_agent.sources.stdin import StdinSource

            return StdinSource(config, clock)
        case MqttSourceConfig():
            from edge_agent.sources.mqtt import MqttSource

            return MqttSource(config, clock)
        case SensorsSourceConfig():
            from edge_agent.sources.sensors import SensorsSource

            return SensorsSource(config, clock)
        case CameraSourceConfig():
            from edge_agent.sources.camera import CameraSource

            return CameraSource(config, clock)
        case _:
            from edge_agent.sources.plugin import PluginSource

            return PluginSource(config, clock, KNOWN)


def _replay_options(config: FileSourceConfig) -> ReplayOptions:
    return ReplayOptions(
        sample_rate_hz=config.sample_rate_hz,
        frames_per_second=config.rate,
        is_interleaved=config.order == "interleaved",
        repeat=config.repeat,
        follow=config.follow,
    )
