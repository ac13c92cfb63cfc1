# SPDX-License-Identifier: Apache-2.0
"""Sources and sinks by the type that the configuration names.

Owns the choice, and how event time begins: at a multiple of the window's length, so
that windows hold whole frames however late the agent starts.
"""

from edge_agent.clock import Clock
from edge_agent.config import AgentConfig
from edge_agent.flow import Result, Sink, Source
from edge_agent.sinks.file import FileSink
from edge_agent.sources.file import FileSource, ReplayOptions


class NullSink:
    """Takes results and keeps none: they are counted all the same."""

    def write(self, result: Result) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_source(config: AgentConfig, clock: Clock) -> Source:
    """Open the configured source.

    Raises:
        SourceError: It cannot be opened.
    """
    source, window_us = config.source, config.statistics.window.us
    options = ReplayOptions(
        sample_rate_hz=source.sample_rate_hz,
        frames_per_second=source.rate,
        is_interleaved=source.order == "interleaved",
        repeat=source.repeat,
        follow=source.follow,
    )
    now_us = clock.wall_us()
    return FileSource(source.path, options, now_us - now_us % window_us)


def open_sink(config: AgentConfig) -> Sink:
    """Open the configured sink, or one that keeps nothing.

    Raises:
        SinkError: It cannot be opened.
    """
    return NullSink() if config.sink is None else FileSink(config.sink.path)
