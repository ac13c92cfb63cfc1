# SPDX-License-Identifier: Apache-2.0
"""Who said what: precedence, names of variables, what a fleet may set, origins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import Layers, load_layers
from edge_agent.config.layers import REASON_LOCAL
from edge_contract.errors import ConfigError

FILE = """
state_dir: state
models:
  front-door: {threads: 2, source: {type: file, path: "${HOME}/a.npz"}}
  main: {sinks: [{type: file, path: results.jsonl}]}
update: {poll: 1h}
"""


def layers(**changes: Any) -> Layers:
    tree = yaml.safe_load(FILE)
    return replace(Layers(tree, "agent.yaml", Path("/etc/edge")), **changes)


def origins(said: Layers) -> dict[str, tuple[str, str]]:
    return {one.key: (one.value, one.origin) for one in said.explain()}


def test_flag_environment_file_fleet_default_in_this_order() -> None:
    said = layers()
    key, variable = "update.poll", "EDGE_AGENT_UPDATE_POLL"
    assert origins(layers(tree={**said.tree, "update": {}}))[key] == ("6h", "default")
    said = replace(said, tree={**said.tree, "update": {}}, desired={key: "2h"})
    said = replace(said, generation=7)
    assert origins(said)[key] == ("2h", "fleet, generation 7")
    said = replace(said, tree=layers().tree)
    assert origins(said)[key] == ("1h", "file agent.yaml")
    said = replace(said, variables={variable: "3h"})
    assert origins(said)[key] == ("3h", f"environment {variable}")
    said = replace(said, flags=((key, "4h"),))
    assert origins(said)[key] == ("4h", "flag --set")
    assert said.resolve().config.update.poll.seconds == 4 * 3600


def test_every_value_that_can_be_set_has_a_variable() -> None:
    names = {one.key: one.variable for one in layers().explain()}

    assert names["models.front-door.threads"] == "EDGE_AGENT_MODELS_FRONT_DOOR_THREADS"
    assert names["models.main.sinks.0.path"] == "EDGE_AGENT_MODELS_MAIN_SINKS"
    assert names["service"] == ""
    assert names["state_dir"] == "EDGE_AGENT_STATE_DIR"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("EDGE_AGENT_MODELS_FRONT_DOOR_THREADS", "4", 4),
        ("EDGE_AGENT_MODELS_FRONT_DOOR_TRUST", "[a.pub]", (Path("/etc/edge/a.pub"),)),
    ],
)
def test_the_text_of_a_variable_is_yaml(variable: str, text: str, value: Any) -> None:
    config = layers(variables={variable: text}).resolve().config
    slot = config.models["front-door"]

    assert value in {slot.threads, slot.trust}


def test_a_section_that_the_file_lacks_can_come_from_the_environment() -> None:
    said = layers(variables={"EDGE_AGENT_SERVICE_HTTP": "127.0.0.1:8080"})
    service = said.resolve().config.service

    assert service is not None
    assert str(service.http) == "127.0.0.1:8080"


def test_a_variable_that_names_no_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="EDGE_AGENT_LOG_LEVL: no key has this name"):
        layers(variables={"EDGE_AGENT_LOG_LEVL": "debug"}).resolve()


def test_the_variable_of_the_file_itself_is_no_key() -> None:
    layers(variables={"EDGE_AGENT_CONFIG": "agent.yaml"}).resolve()


def test_a_wrong_value_is_named_by_who_said_it() -> None:
    with pytest.raises(
        ConfigError, match=r"^environment EDGE_AGENT_LOG_LEVEL: log\.lev"
    ):
        layers(variables={"EDGE_AGENT_LOG_LEVEL": "loud"}).resolve()
    with pytest.raises(ConfigError, match=r"^flag --set: models\.main\.threads: "):
        layers(flags=(("models.main.threads", "many"),)).resolve()
    with pytest.raises(ConfigError, match=r"--set models\.main: expected YAML"):
        layers(flags=(("models.main", "{"),)).resolve()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("samples.consent", True, REASON_LOCAL),
        ("privacy.epsilon", 1000, REASON_LOCAL),
        ("samples.budget", "1GiB", REASON_LOCAL),
        ("state_dir", "/", REASON_LOCAL),
        ("models.main.source.path", "/etc/passwd", REASON_LOCAL),
        ("models.main.trust", "a.pub", REASON_LOCAL),
        ("no.such.key", 1, REASON_LOCAL),
        ("update.poll", "1m", "is set on the device itself"),
        ("log.level", "loud", "expected one of debug, info, warning, error, found"),
        ("log.level", None, "expected one of debug"),
        ("statistics.window", 5, "expected a duration"),
        ("log.level", "debug", ""),
        ("statistics.window", "10m", ""),
        ("update.trial_inferences", 10, ""),
    ],
)
def test_what_a_fleet_may_set(key: str, value: Any, reason: str) -> None:
    resolved = layers(desired={key: value}).resolve()

    assert [one for one, _ in resolved.refused] == ([key] if reason else [])
    assert all(why.startswith(reason) for _, why in resolved.refused)


def test_a_refused_key_changes_nothing_and_the_others_are_taken() -> None:
    desired = {"samples.consent": True, "log.level": "debug"}
    config = layers(desired=desired).resolve().config

    assert config.samples.consent is False
    assert config.log.level == "debug"


def test_a_text_with_a_variable_is_shown_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/secret")
    found = origins(layers())["models.front-door.source.path"]

    assert found == ("${HOME}/a.npz", "file agent.yaml")


def test_layers_are_read_from_file_flags_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("EDGE_AGENT_LOG_LEVEL", "warning")
    said = load_layers(path, ["update.poll=5h", "models.main.device_profile=a=b"])
    config = said.resolve().config

    assert config.log.level == "warning"
    assert config.update.poll.seconds == 5 * 3600
    assert config.models["main"].device_profile == "a=b"
    with pytest.raises(ConfigError, match="--set: expected KEY=VALUE, found 'x'"):
        load_layers(path, ["x"])
