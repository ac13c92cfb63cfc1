# SPDX-License-Identifier: Apache-2.0
"""The wanted configuration: durable, with what was refused and why."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_agent.config import Layers
from edge_agent.config.layers import REASON_LOCAL
from edge_agent.daemon.wanted import (
    MAX_REFUSED,
    Refused,
    Wanted,
    load_wanted,
    save_wanted,
    take_want,
)
from edge_agent.errors import StateError
from edge_contract.messages import Want
from edge_contract.wire import Scalar

LAYERS = Layers({"state_dir": "s", "models": {"main": {}}}, "agent.yaml", Path("/etc"))


def judge(config: Mapping[str, Scalar], generation: int) -> Refused:
    layers = Layers(
        LAYERS.tree, LAYERS.name, LAYERS.folder, desired=config, generation=generation
    )
    return layers.resolve().refused


def test_what_was_taken_and_refused_survives_a_restart(tmp_path: Path) -> None:
    config: dict[str, Scalar] = {"log.level": "debug", "samples.consent": True}
    wanted = take_want(Want(1, 0, 7, config, {"site": "north"}), judge)
    save_wanted(tmp_path, wanted)

    assert wanted.refused == (("samples.consent", REASON_LOCAL),)
    assert load_wanted(tmp_path) == wanted
    assert (wanted.generation, wanted.tags) == (7, {"site": "north"})


def test_a_birth_has_room_for_so_many_refusals() -> None:
    config: dict[str, Scalar] = {f"no.such.{one}": 1 for one in range(200)}
    wanted = take_want(Want(1, 0, 7, config, {}), judge)

    assert len(wanted.refused) == MAX_REFUSED


def test_an_older_file_without_values_is_read(tmp_path: Path) -> None:
    (tmp_path / "want.json").write_text('{"generation": 3, "tags": {}, "refused": []}')

    assert load_wanted(tmp_path) == Wanted(3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"generation": "x"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "want.json").write_text(text)
    with pytest.raises(StateError, match=r"want\.json: cannot be read"):
        load_wanted(tmp_path)
