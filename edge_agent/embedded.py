# SPDX-License-Identifier: Apache-2.0
"""The agent inside another program: its models by a call, with all that a daemon does.

Owns the thread that the agent runs on, and how a program waits for it. What is served,
counted, sent and updated is ``daemon``'s matter, told by the same configuration: a slot
without a source is asked by the program alone. Signals stay the program's, and so does
where log records go.

Example:
    >>> from edge_agent.embedded import open_agent  # doctest: +SKIP
    >>> with open_agent("agent.yaml") as agent:  # doctest: +SKIP
    ...     agent.infer(frame).output.argmax()
    3
"""

import threading
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge_agent.clock import SystemClock
from edge_agent.daemon.agent import Agent, Program
from edge_agent.daemon.notify import Notifier
from edge_agent.errors import ModelError
from edge_agent.flow import Float32, ModelCard, Result
from edge_agent.logs import set_level
from edge_agent.verbs.configuration import read_layers

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


class EmbeddedAgent:
    """A running agent. Any thread may ask it.

    Args:
        config: The configuration file; see configs/agent.yaml.
        flags: ``KEY=VALUE`` each, above the file.

    Raises:
        EdgeError: It cannot start, or another agent runs in its state folder.
    """

    def __init__(self, config: Path, flags: tuple[str, ...] = ()) -> None:
        path = config.resolve()
        layers = read_layers(path, flags)
        set_level(layers.resolve().config.log.level)
        self._error: BaseException | None = None
        self._is_ended = False
        self._ready = threading.Event()
        with ExitStack() as stack:
            self._agent = Agent(
                layers,
                Program(path, flags),
                SystemClock(),
                _Gate(self._ready),
                stack,
            )
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._thread.start()
        is_ready = self._ready.wait(READY_SECONDS)
        if self._is_ended or not is_ready:
            self.close()
            msg = f"agent: expected it to be ready within {READY_SECONDS:g} s"
            raise ModelError(msg, next_step="look at its log, or run edge-agent check")

    def infer(self, frame: Float32, slot: str | None = None, name: str = "") -> Result:
        """Run and count one frame; a failure of the model is in the result.

        Args:
            frame: float32, of the model's frame shape, with or without a batch of 1.
            slot: Which model's; None: the first one's.
            name: The result's ``id``.

        Raises:
            ModelError: No such slot, nothing serves in it, or the agent has ended.
        """
        if self._is_ended:
            msg = "agent: it has ended, and counts no more"
            raise ModelError(msg, next_step="open it again; its log says why")
        session = self._agent.repository.slot(slot or self._first)
        if session is None:
            msg = f"models.{slot}: expected one of {', '.join(self._names)}"
            raise ModelError(msg, next_step="name a slot of the configuration")
        return session.infer(frame, name)

    def card(self, slot: str | None = None) -> ModelCard | None:
        """Return what serves in a slot; None where nothing does."""
        session = self._agent.repository.slot(slot or self._first)
        return None if session is None else session.card

    def close(self) -> None:
        """Finish the inferences in hand, count them, and stop.

        Raises:
            EdgeError: A part of the agent has failed.
        """
        self._agent.stop()
        self._thread.join(STOP_SECONDS)
        self._stack.close()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._agent.repository.names)

    @property
    def _first(self) -> str:
        return self._names[0]

    def _run(self) -> None:
        try:
            self._agent.run()
        except BaseException as error:  # noqa: BLE001 - handed to whoever closes
            self._error = error
        self._is_ended = True
        self._ready.set()


class _Gate(Notifier):
    """Opens where a service manager would be told that the agent is ready."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__(None)
        self._event = event

    def ready(self) -> None:
        self._event.set()


def open_agent(config: str | PathLike[str], *flags: str) -> EmbeddedAgent:
    """Run the agent of a configuration inside this program, until it is closed.

    Args:
        config: The configuration file.
        flags: ``KEY=VALUE`` each, above the file.

    Raises:
        EdgeError: It cannot start.
    """
    return EmbeddedAgent(Path(config), flags)
