# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: one YAML file into frozen values."""

from edge_agent.config.layers import Entry, Layers, Resolved
from edge_agent.config.parse import load_config, load_layers, parse_config
from edge_agent.config.schema import (
    AgentConfig,
    LimitsConfig,
    LogConfig,
    OutboxConfig,
    SamplesConfig,
    ShadowConfig,
    SlotConfig,
    StatisticsConfig,
    UpdateConfig,
    WatchdogConfig,
)
from edge_agent.config.service import ServiceConfig
from edge_agent.config.sinks import (
    FileSinkConfig,
    MqttSinkConfig,
    PluginSinkConfig,
    SinkConfig,
    SqliteSinkConfig,
    StdoutSinkConfig,
    WebhookSinkConfig,
)
from edge_agent.config.sources import (
    CameraSourceConfig,
    FileSourceConfig,
    MqttSourceConfig,
    PluginSourceConfig,
    SensorsSourceConfig,
    SourceConfig,
    StdinSourceConfig,
)
from edge_agent.config.units import Duration, Percent, Size

__all__ = [
    "AgentConfig",
    "CameraSourceConfig",
    "Duration",
    "Entry",
    "FileSinkConfig",
    "FileSourceConfig",
    "Layers",
    "LimitsConfig",
    "LogConfig",
    "MqttSinkConfig",
    "MqttSourceConfig",
    "OutboxConfig",
    "Percent",
    "PluginSinkConfig",
    "PluginSourceConfig",
    "Resolved",
    "SamplesConfig",
    "SensorsSourceConfig",
    "ServiceConfig",
    "ShadowConfig",
    "SinkConfig",
    "Size",
    "SlotConfig",
    "SourceConfig",
    "SqliteSinkConfig",
    "StatisticsConfig",
    "StdinSourceConfig",
    "StdoutSinkConfig",
    "UpdateConfig",
    "WatchdogConfig",
    "WebhookSinkConfig",
    "load_config",
    "load_layers",
    "parse_config",
]
