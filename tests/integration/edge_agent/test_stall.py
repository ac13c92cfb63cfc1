# SPDX-License-Identifier: Apache-2.0
"""A model that hangs in a running agent: it is told of, and the others serve."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import load_layers
from edge_agent.daemon.agent import Agent, Program
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.wanted import Wanted
from edge_agent.errors import ModelError
from edge_agent.flow import Float32
from edge_contract.signing import generate_key
from edge_contract.wire import Scalar
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe, make_bundle

PATIENCE = 60.0
FILE = """\
state_dir: state
models:
  hangs:
    bundle: a.bundle
    trust: [k.pub]
    source: {type: file, path: source.npz, rate: 100}
  serves:
    bundle: a.bundle
    trust: [k.pub]
    source: {type: file, path: source.npz, rate: 100}
watchdog: {stall: 500ms}
limits: {memory: 4GiB}
"""


def await_true(accept: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not accept():
        assert time.monotonic() < end
        time.sleep(0.02)


def drain(ear: socket.socket) -> list[str]:
    """Return what was heard so far."""
    heard = []
    ear.settimeout(0)
    while True:
        try:
            heard.append(ear.recv(4096).decode())
        except BlockingIOError:
            return heard


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path)
    home.record()
    home.config.write_text(FILE)
    private, public = generate_key()
    (tmp_path / "k.pub").write_bytes(public)
    make_bundle(tmp_path / "a.bundle", ModelRecipe(), sign_key=private)
    return home


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        ear.bind(str(tmp_path / "notify"))
        yield ear


@pytest.fixture
def agent(home: AgentHome, ear: socket.socket) -> Iterator[Agent]:
    with ExitStack() as stack:
        notifier = Notifier(ear.getsockname(), "400000")
        stack.enter_context(closing(notifier))
        program = Program(home.config, [])
        agent = Agent(load_layers(home.config), program, SystemClock(), notifier, stack)
        thread = threading.Thread(target=agent.run)
        thread.start()
        yield agent
        agent.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_hang_is_logged_told_and_starves_the_watchdog(
    agent: Agent, ear: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, serves = agent.slots["hangs"], agent.slots["serves"]
    await_true(lambda: min(hangs.session.finite, serves.session.finite) > 10)
    await_true(lambda: "WATCHDOG=1" in drain(ear))
    gate, model = threading.Event(), hangs.model
    assert model is not None
    original = model.backend.infer

    def hang(data: Float32) -> Float32:
        gate.wait(PATIENCE)
        return original(data)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(model.backend, "infer", hang)
        await_true(lambda: "models.hangs stands still" in caplog.text)
        drain(ear)
        before = serves.session.finite
        await_true(lambda: serves.session.finite > before + 50)
        assert "WATCHDOG=1" not in drain(ear)
        assert "in hang" in caplog.text  # the stack that hangs is among those logged
        assert "models.serves stands still" not in caplog.text
        assert "stall: models.hangs" in caplog.text
    gate.set()
    await_true(lambda: "WATCHDOG=1" in drain(ear))


@pytest.mark.slow
def test_slots_are_unloaded_and_loaded_while_others_serve(agent: Agent) -> None:
    repository, serves = agent.repository, agent.slots["serves"]
    await_true(lambda: agent.slots["hangs"].session.finite > 10)
    assert tuple(repository.names) == ("hangs", "serves")
    repository.unload("hangs")
    served = repository.slot("hangs")
    assert served is not None
    assert [served.card] == [None]
    before = serves.session.finite
    await_true(lambda: serves.session.finite > before + 20)
    repository.load("hangs")
    card = served.card
    assert card is not None
    assert card.name == "toy"
    count = agent.slots["hangs"].session.finite
    await_true(lambda: agent.slots["hangs"].session.finite > count + 10)
    with pytest.raises(ModelError, match="expected one of hangs, serves"):
        repository.unload("other")
    assert repository.slot("other") is None


@pytest.mark.slow
def test_what_a_fleet_wants_works_at_once_where_it_can(
    agent: Agent, request: pytest.FixtureRequest
) -> None:
    logger = logging.getLogger("edge_agent")
    request.addfinalizer(lambda: logger.setLevel(logging.NOTSET))
    wanted: dict[str, Scalar] = {
        "log.level": "error",
        "update.trial_inferences": 7,
        "models.serves.trust": "x",
    }
    refused = agent._judge(wanted, 3)
    agent._identity.wanted = Wanted(3, {}, wanted, refused)
    agent._apply_wanted()

    assert [key for key, _ in refused] == ["models.serves.trust"]
    assert agent.slots["serves"].deployment.limits.inferences == 7
    assert logger.level == logging.ERROR
