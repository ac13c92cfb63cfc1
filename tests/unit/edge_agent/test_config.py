# SPDX-License-Identifier: Apache-2.0
"""The configuration: the sample, and every wrong thing by file and key."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import (
    AgentConfig,
    SinkConfig,
    SourceConfig,
    load_config,
    parse_config,
)
from edge_contract.errors import ConfigError

FOLDER = Path("/etc/edge-agent")
LEAST = "state_dir: state\nsource: {path: a.npz}\n"
SAMPLE = Path(__file__).parents[3] / "configs" / "agent.yaml"


def parse(text: str) -> AgentConfig:
    return parse_config(text.encode(), "agent.yaml", FOLDER)


def test_paths_are_relative_to_the_file() -> None:
    config = parse("state_dir: state\nsource: {path: /data/a.npz}")

    assert config.state_dir == FOLDER / "state"
    assert config.source.path == Path("/data/a.npz")


def test_the_sample_shows_every_default() -> None:
    folder = SAMPLE.parent.resolve()
    least = parse_config(
        b"state_dir: state\nsource: {path: recordings.npz}", "least", folder
    )

    expected = replace(least, sink=SinkConfig(folder / "results.jsonl"))
    assert load_config(SAMPLE) == expected


def test_durations_and_sizes_have_units() -> None:
    config = parse(LEAST + "statistics: {window: 1.28s}\noutbox: {max: 512KiB}")

    assert config.statistics.window.us == 1_280_000
    assert config.outbox.max.bytes == 524_288


def test_a_variable_of_the_environment_is_put_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECORDINGS", "/data")
    config = parse("state_dir: state\nsource: {path: '${RECORDINGS}/a.npz'}")

    assert config.source == SourceConfig(path=Path("/data/a.npz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LEAST + "mqtt: {}",
            "agent.yaml: mqtt: unknown key; expected one of state_dir",
        ),
        ("state_dir: s\nsource: {path: a, rat: 1}", "source.rat: unknown key"),
        ("state_dir: s\nsource: {path: a, rate: soon}", "source.rate: expected a numb"),
        ("state_dir: s\nsource: {path: a, rate: -1}", "source.rate: expected 0 to"),
        ("state_dir: s\nsource: {path: a, repeat: 1}", "source.repeat: expected true"),
        ("state_dir: s\nsource: {path: a, type: mqtt}", "source.type: expected one of"),
        ("state_dir: s", "agent.yaml: source: missing"),
        ("source: {path: a}", "agent.yaml: state_dir: missing"),
        ("state_dir: s\nsource: 3", "agent.yaml: source: expected keys and values"),
        (LEAST + "sink: {pat: x}", "agent.yaml: sink"),
        (LEAST + "statistics: {window: soon}", "window: expected a duration like 10s"),
        (LEAST + "statistics: {window: 0s}", "expected a duration above zero"),
        (LEAST + "outbox: {max: 12}", "outbox.max: expected a size like"),
        (LEAST + "outbox: {max: 1KiB}", "outbox.max: expected 65536 to"),
        (LEAST + "model: {threads: 0}", "model.threads: expected 1 to 64, found 0"),
        (LEAST + "log: {level: loud}", "log.level: expected one of debug, info"),
        ("state_dir: ${NO_SUCH_NAME}\nsource: {path: a}", "NO_SUCH_NAME"),
        ("x: [", "agent.yaml: expected YAML"),
        ("- 1", "agent.yaml: expected keys and values, found list"),
        ("", "agent.yaml: expected keys and values"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)

    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")
