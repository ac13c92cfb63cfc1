# SPDX-License-Identifier: Apache-2.0
"""The agent inside a program of another: a call infers, and everything is counted."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.embedded import open_agent
from edge_agent.errors import LockError, ModelError
from edge_contract.errors import ConfigError
from edge_contract.signing import generate_key
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe, make_bundle

CALLERS, CALLS = 3, 200


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    home = AgentHome(tmp_path)
    private, public = generate_key()
    (tmp_path / "builder.pub").write_bytes(public)
    recipe = ModelRecipe(observe="vector", features=4)
    make_bundle(tmp_path / "a.bundle", recipe, sign_key=private)
    home.config.write_text(
        "state_dir: state\nmodels:\n"
        "  main: {bundle: a.bundle, trust: [builder.pub], source: null}\n"
    )
    yield home
    logging.getLogger("edge_agent").setLevel(logging.NOTSET)


def test_a_program_infers_and_the_agent_counts(home: AgentHome) -> None:
    frame = np.full((1, 4), 0.25, dtype=np.float32)
    agent = open_agent(home.config)

    def call() -> None:
        for number in range(CALLS):
            assert agent.infer(frame, name=str(number)).error is None

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    with agent:
        for one in callers:
            one.start()
        for one in callers:
            one.join()
        result = agent.infer(frame[0], slot="main", name="last")
        card = agent.card()
        with pytest.raises(ModelError, match="expected one of main"):
            agent.infer(frame, slot="nobody")
        with pytest.raises(LockError):
            open_agent(home.config)

    with pytest.raises(ModelError, match="it has ended"):
        agent.infer(frame)
    assert card is not None
    assert (result.id, result.digest) == ("last", card.digest)
    assert result.output is not None
    books = home.read_books()
    assert books.produced == books.accounted == CALLERS * CALLS + 1
    assert books.closed + books.open == books.produced
    assert home.read_status()["serving"] == {"main": card.digest}


def test_logging_stays_the_programs(home: AgentHome) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    with open_agent(home.config, "log.level=error"):
        assert (list(root.handlers), root.level) == before
        assert logging.getLogger("edge_agent").level == logging.ERROR


def test_what_stops_a_start_is_raised(home: AgentHome) -> None:
    home.config.write_text(home.config.read_text().replace("state_dir", "state_folder"))
    with pytest.raises(ConfigError, match="state_dir: missing"):
        open_agent(home.config)
