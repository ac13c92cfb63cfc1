# SPDX-License-Identifier: Apache-2.0
"""The configuration: the sample, and every wrong thing by file and key."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from edge_agent.addresses import Address
from edge_agent.config import (
    AgentConfig,
    FileSinkConfig,
    FileSourceConfig,
    ServiceConfig,
    ShadowConfig,
    SlotConfig,
    load_config,
    parse_config,
)
from edge_agent.config.feedback import FeedbackConfig, FileLabelsConfig
from edge_agent.config.structure import KeyedError, find_member, make_converter
from edge_agent.config.units import Duration, Percent, Size
from edge_contract.errors import ConfigError

FOLDER = Path("/etc/edge-agent")
LEAST = "state_dir: state\nmodels: {main: {}}\n"
SAMPLE = Path(__file__).parents[3] / "configs" / "agent.yaml"


@dataclass(frozen=True)
class One:
    """A member of a union."""

    path: Path
    type: Literal["one"] = "one"


@dataclass(frozen=True)
class Two:
    """Another member, with two names."""

    type: Literal["two", "zwei"] = "two"
    rate: float = 1.0


@dataclass(frozen=True)
class Other:
    """What stands for all other names."""

    type: str


def parse(text: str) -> AgentConfig:
    return parse_config(text.encode(), "agent.yaml", FOLDER)


def parse_slot(text: str) -> SlotConfig:
    return parse(f"state_dir: s\nmodels: {{main: {text}}}").models["main"]


def test_paths_are_relative_to_the_file() -> None:
    config = parse(
        "state_dir: state\nmodels: {main: {source: {type: file, path: /data/a.npz}}}"
    )

    assert config.state_dir == FOLDER / "state"
    assert config.models["main"].source == FileSourceConfig(Path("/data/a.npz"))


def test_the_sample_shows_every_default() -> None:
    folder = SAMPLE.parent.resolve()
    least = parse_config(b"state_dir: state\nmodels: {main: {}}", "least", folder)
    slot = SlotConfig(
        source=FileSourceConfig(folder / "recordings.npz"),
        sinks=(FileSinkConfig(folder / "results.jsonl"),),
    )

    assert load_config(SAMPLE) == replace(least, models={"main": slot})


def test_what_the_sample_has_in_comments_is_read_too() -> None:
    lines = SAMPLE.read_text().splitlines()
    said = [one.replace("# ", "", 1) if ": " in one else one for one in lines]
    optional = (
        "bundle:",
        "shadow:",
        "service:",
        "  http:",
        "  unix:",
        "  grpc:",
        "  max_request:",
        "  max_json:",
        "privacy:",
        "  epsilon:",
        "rows_per_second:",
        "feedback:",
        "remember:",
        "within:",
        "labels:",
        "- {type: file, path: labels",
    )
    text = [
        new if new.strip().startswith(optional) or new.startswith(optional) else old
        for old, new in zip(lines, said, strict=True)
    ]
    bare = {f"# {one}": one for one in ("service:", "privacy:")}
    bare["    # feedback:"] = "    feedback:"
    text = [bare.get(one, one) for one in text]
    config = parse("\n".join(text))

    slot = config.models["main"]
    assert slot.bundle == FOLDER / "watch.bundle"
    assert slot.shadow == ShadowConfig(FOLDER / "next.bundle")
    assert slot.rows_per_second == 50.0
    labels = (FileLabelsConfig(FOLDER / "labels.jsonl"),)
    assert slot.feedback == FeedbackConfig(labels=labels)
    assert config.privacy.epsilon_millionths == 1_000_000
    assert config.service == ServiceConfig(
        Address("127.0.0.1", 8080), FOLDER / "agent.sock", Address("127.0.0.1", 8081)
    )


def test_several_models_keep_their_order() -> None:
    config = parse("state_dir: s\nmodels: {b: {threads: 2}, a: {}}")

    assert list(config.models) == ["b", "a"]
    assert config.pick() == ("b", SlotConfig(threads=2))
    assert config.pick("a") == ("a", SlotConfig())
    with pytest.raises(ConfigError, match="expected one of b, a, found 'c'"):
        config.pick("c")


def test_durations_sizes_and_shares_have_units() -> None:
    config = parse(
        LEAST + "statistics: {window: 1.28s}\noutbox: {max: 512KiB}\n"
        "limits: {cpu: 12.5%}"
    )

    assert config.statistics.window.us == 1_280_000
    assert config.outbox.max.bytes == 524_288
    assert config.limits.cpu.fraction == 0.125


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration(1_280_000), "1280ms"),
        (Duration(90_000_000), "90s"),
        (Duration(86_400_000_000), "1d"),
        (Duration(7), "7us"),
        (Size(512 * 1024), "512KiB"),
        (Size(1025), "1025B"),
        (Percent(12.5), "12.5%"),
    ],
)
def test_values_are_written_as_they_are_read(
    value: Duration | Size | Percent, text: str
) -> None:
    assert str(value) == text
    assert type(value).parse(text) == value


def test_a_variable_of_the_environment_is_put_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECORDINGS", "/data")

    slot = parse_slot("{source: {type: file, path: '${RECORDINGS}/a.npz'}}")

    assert slot.source == FileSourceConfig(path=Path("/data/a.npz"))


def test_members_of_a_union_are_told_apart_by_type() -> None:
    converter = make_converter(FOLDER)
    kind: Any = One | Two | None

    assert converter.structure({"type": "one", "path": "a"}, kind) == One(FOLDER / "a")
    assert converter.structure({"type": "zwei", "rate": 2}, kind) == Two("zwei", 2.0)
    assert converter.structure(None, kind) is None


def test_a_type_that_nobody_has_is_refused_with_those_that_there_are() -> None:
    kind: Any = One | Two
    with pytest.raises(KeyedError, match="expected one of one, two, zwei, found 'x'"):
        make_converter(FOLDER).structure({"type": "x"}, kind)
    with pytest.raises(KeyedError, match="found None"):
        make_converter(FOLDER).structure({"path": "a"}, kind)


def test_a_class_with_any_type_stands_for_the_other_names() -> None:
    kind: Any = One | Other

    assert find_member({"type": "x"}, kind) is Other
    assert find_member({"type": "one"}, kind) is One
    assert find_member({"type": 3}, kind) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "mqtt: {}", "mqtt: unknown key; expected one of state_dir, models"),
        ("state_dir: s", "agent.yaml: models: missing"),
        ("models: {main: {}}", "agent.yaml: state_dir: missing"),
        ("state_dir: s\nmodels: {}", "models: expected at least one model, found none"),
        ("state_dir: s\nmodels: 3", "agent.yaml: models: expected keys and values"),
        ("state_dir: s\nmodels: {Main: {}}", "models: expected a name of a-z, 0-9 and"),
        ("state_dir: s\nmodels: {3: {}}", "agent.yaml: models.3: expected a text"),
        (LEAST + "statistics: {window: soon}", "window: expected a duration like 10s"),
        (LEAST + "statistics: {window: 0s}", "expected a duration above zero"),
        (LEAST + "outbox: {max: 12}", "outbox.max: expected a size like"),
        (LEAST + "outbox: {max: 1KiB}", "outbox.max: expected 65536 to"),
        (LEAST + "limits: {cpu: 10}", "limits.cpu: expected a share like 10%"),
        (
            LEAST + "limits: {temperature: 500}",
            "limits.temperature: expected 30 to 125",
        ),
        (LEAST + "service: {http: 0.0.0.0:80}", "service.http: expected a loopback"),
        (LEAST + "service: {http: 8080}", "service.http: expected an address like"),
        (LEAST + "log: {level: loud}", "log.level: expected one of debug, info"),
        ("state_dir: ${NO_SUCH_NAME}\nmodels: {main: {}}", "NO_SUCH_NAME"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "agent.yaml: models.main: expected keys and values"),
        ("{threads: 0}", "models.main.threads: expected 1 to 64, found 0"),
        ("{rat: 1}", "models.main.rat: unknown key; expected one of bundle, trust"),
        ("{source: 3}", "models.main.source: expected keys and values"),
        ("{source: {}}", "models.main.source.type: expected one of file"),
        (
            "{source: {type: file, path: a, rat: 1}}",
            "models.main.source.rat: unknown key",
        ),
        (
            "{source: {type: file, path: a, rate: soon}}",
            "main.source.rate: expected a number",
        ),
        (
            "{source: {type: file, path: a, rate: -1}}",
            "main.source.rate: expected 0 to",
        ),
        (
            "{source: {type: file, path: a, repeat: 1}}",
            "main.source.repeat: expected true or",
        ),
        ("{source: {path: a, type: no}}", "main.source.type: expected one of file"),
        (
            "{sinks: [{type: file, path: a}, {type: file, pat: b}]}",
            "models.main.sinks.1",
        ),
        ("{shadow: {bundle: a, cpu: 0%}}", "main.shadow.cpu: expected 0.1 to 100"),
    ],
)
def test_what_is_wrong_in_a_slot_is_named_by_slot_and_key(
    text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_slot(text)

    assert message in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(ConfigError, match="expected at most 262144 bytes"):
        load_config(path)
