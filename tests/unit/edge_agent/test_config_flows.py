# SPDX-License-Identifier: Apache-2.0
"""Sources and sinks in the configuration, and the snippets of their documentation."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from edge_agent.config import (
    AgentConfig,
    Duration,
    FileSinkConfig,
    MqttSourceConfig,
    PluginSinkConfig,
    PluginSourceConfig,
    SensorsSourceConfig,
    Size,
    SqliteSinkConfig,
    StdinSourceConfig,
    StdoutSinkConfig,
    WebhookSinkConfig,
    parse_config,
)
from edge_agent.config import sinks as sink_config
from edge_agent.config import sources as source_config
from edge_agent.sinks import choose as sinks
from edge_agent.sources import choose as sources
from edge_contract.errors import ConfigError

ROOT = Path(__file__).parents[3]
DOCUMENTS = (
    ROOT / "docs" / "reference" / "sources-and-sinks.md",
    ROOT / "docs" / "how-to" / "feed-a-model.md",
)
FOLDER = Path("/etc/edgeloop")


def parse(slot: str) -> AgentConfig:
    text = f"state_dir: state\nmodels: {{main: {{{slot}}}}}\n"
    return parse_config(text.encode(), "agent.yaml", FOLDER)


def test_sources_are_told_apart_by_type() -> None:
    slot = parse("source: {type: stdin, format: csv, gap: 5s}").models["main"]
    assert slot.source == StdinSourceConfig(format="csv", gap=Duration(5_000_000))
    told = "source: {type: mqtt, topics: [a/+/b], password_file: pass, queue: 5}"
    expected = MqttSourceConfig(("a/+/b",), password_file=FOLDER / "pass", queue=5)
    assert parse(told).models["main"].source == expected
    told = "source: {type: sensors, fields: [load_1], interval: 2s}"
    expected_sensors = SensorsSourceConfig(("load_1",), interval=Duration(2_000_000))
    assert parse(told).models["main"].source == expected_sensors
    told = "source: {type: modbus, options: {port: 502, registers: [1, 2]}}"
    plugin = PluginSourceConfig("modbus", {"port": 502, "registers": [1, 2]})
    assert parse(told).models["main"].source == plugin


def test_a_slot_has_several_sinks() -> None:
    told = (
        "sinks: [{type: file, path: r.jsonl, max_size: 8MiB}, {type: stdout}, "
        "{type: sqlite, path: r.db, max_rows: 5}, "
        "{type: webhook, url: 'https://a/b', secret_file: s}, {type: jar, queue: 3}]"
    )
    assert parse(told).models["main"].sinks == (
        FileSinkConfig(FOLDER / "r.jsonl", max_size=Size(8 * 1024**2)),
        StdoutSinkConfig(),
        SqliteSinkConfig(FOLDER / "r.db", max_rows=5),
        WebhookSinkConfig("https://a/b", secret_file=FOLDER / "s"),
        PluginSinkConfig("jar", queue=3),
    )


@pytest.mark.parametrize(
    ("slot", "problem"),
    [
        ("source: {type: mqtt}", "models.main.source.topics: missing"),
        ("source: {type: stdin, format: xml}", "expected one of json, csv"),
        ("source: {type: mqtt, topics: [a], qos: 2}", "qos: expected 0 to 1, found 2"),
        ("source: {type: mqtt, topics: [a], port: 0}", "port: expected 1 to 65535"),
        ("source: {type: mqtt, topics: [a], password: x}", "password: unknown key"),
        (
            "source: {type: modbus, port: 502}",
            "port: unknown key; expected one of type",
        ),
        ("sinks: [{type: sqlite}]", "models.main.sinks.0.path: missing"),
        ("sinks: [{type: stdout, queue: 0}]", "queue: expected 1 to"),
    ],
)
def test_what_is_wrong_is_named(slot: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        parse(slot)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.stem)
def test_the_snippets_of_the_documentation_parse(document: Path) -> None:
    snippets = re.findall(r"```yaml\n(.*?)```", document.read_text(), flags=re.DOTALL)
    kinds: set[str] = set()
    for snippet in snippets:
        tree = yaml.safe_load(snippet)
        data = yaml.safe_dump({"state_dir": "state", "models": {"main": tree}})
        slot = parse_config(data.encode(), document.name, FOLDER).models["main"]
        kinds |= {one.type for one in slot.sinks}
        kinds |= {slot.source.type} if slot.source else set()
    if document.stem == "sources-and-sinks":
        assert {*sources.KNOWN, *sinks.KNOWN} <= kinds
    assert snippets


@pytest.mark.parametrize("key", ["source", "sink"])
def test_every_key_is_documented(key: str) -> None:

    module = source_config if key == "source" else sink_config
    text = DOCUMENTS[0].read_text()
    for name, kind in vars(module).items():
        if name.endswith("Config") and dataclasses.is_dataclass(kind):
            for one in dataclasses.fields(kind):
                assert f"`{one.name}`" in text, f"{name}.{one.name}"
