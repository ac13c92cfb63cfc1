# SPDX-License-Identifier: Apache-2.0
"""The thread that brings releases into a slot: at the start, and what comes then.

Owns which releases are tried at a start, and the answer to ``load`` and ``unload``,
which other threads ask for. What is slow (a probe, a load) happens here: neither
inference nor supervision waits for it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from edge_agent.daemon.deployment import Deployment
from edge_agent.errors import ModelError
from edge_agent.ota.slots import Slots
from edge_contract.errors import EdgeError

TICK_SECONDS: Final = 0.25
JOIN_SECONDS: Final = 30.0
ASK_SECONDS: Final = 120.0
_LOG = logging.getLogger(__name__)


class First(Protocol):
    """Who has a release to start with, where none is committed yet."""

    def prepare(self) -> None:
        """Put one into the store and commit it.

        Raises:
            EdgeError: There is none that may serve.
            OSError: It cannot be read.
        """


@dataclass(eq=False)
class _Ask:
    body: Callable[[], None]
    is_done: threading.Event = field(default_factory=threading.Event)
    error: EdgeError | OSError | None = None


class ReleaseWorker:
    """Brings releases in, on a thread of its own.

    Args:
        slot: The slot's name, for messages.
        slots: Its releases.
        deployment: Swaps and watches them.
        first: Asked at the start; None: the fleet brings the first one.
        complain: Told why a release cannot serve.
    """

    def __init__(
        self,
        slot: str,
        slots: Slots,
        deployment: Deployment,
        first: First | None,
        complain: Callable[[str], None],
    ) -> None:
        self._slot = slot
        self._slots = slots
        self._deployment = deployment
        self._first = first
        self._complain = complain
        self._is_unloaded = False
        self._settled = threading.Event()
        self._stop = threading.Event()
        self._asked: SimpleQueue[_Ask] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"releases-{slot}")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def await_settled(self, timeout_seconds: float) -> bool:
        """Wait until the committed release serves, or it is clear that none does."""
        return self._settled.wait(timeout_seconds)

    def stop(self) -> None:
        """End the thread after the step in hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)
        self._deployment.close()
        self._deployment.settle()

    def load(self) -> None:
        """Serve the committed release again; any thread may ask.

        Raises:
            ModelError: There is none, or it cannot serve.
        """
        self._ask(self._load)

    def unload(self) -> None:
        """Serve nothing until ``load``; any thread may ask.

        Raises:
            ModelError: A release is on trial.
        """
        self._ask(self._unload)

    def _run(self) -> None:
        complaint = ""
        try:
            self._serve_committed()
        finally:
            self._settled.set()
        while not self._stop.is_set():
            self._answer(TICK_SECONDS)
            if self._is_unloaded:
                continue
            try:
                self._deployment.tick()
            except (EdgeError, OSError) as error:
                if str(error) != complaint:
                    _LOG.warning("models.%s: %s", self._slot, error)
                complaint = str(error)

    def _serve_committed(self) -> None:
        if self._first is not None:
            try:
                self._first.prepare()
            except (EdgeError, OSError) as error:
                self._complain(str(error))
        found = [one for one in (self._slots.active, self._slots.previous) if one]
        for is_last_hope in (False, True):
            for digest in found:
                if self._serve(digest, is_last_hope=is_last_hope):
                    return
        _LOG.info("models.%s: no model yet", self._slot)

    def _serve(self, digest: str, *, is_last_hope: bool) -> bool:
        path = self._slots.path(digest)
        try:
            self._deployment.start(path, digest, is_last_hope=is_last_hope)
        except (EdgeError, OSError) as error:
            self._complain(f"release {digest[:12]} cannot serve: {error}")
            return False
        return True

    def _load(self) -> None:
        digest = self._slots.active
        if digest is None:
            msg = f"models.{self._slot}: expected a committed release, found none"
            raise ModelError(msg, next_step="roll one out, or import a bundle")
        if self._deployment.trial is None:
            path = self._slots.path(digest)
            self._deployment.start(path, digest, is_last_hope=True)
        self._is_unloaded = False

    def _unload(self) -> None:
        if self._deployment.trial or self._deployment.shadow:
            msg = f"models.{self._slot}: a release is on trial"
            raise ModelError(msg, next_step="try again when the trial is over")
        self._is_unloaded = True
        self._deployment.stop()

    def _ask(self, body: Callable[[], None]) -> None:
        ask = _Ask(body)
        self._asked.put(ask)
        if not ask.is_done.wait(ASK_SECONDS):
            msg = f"models.{self._slot}: expected an answer in {ASK_SECONDS:g} s"
            raise ModelError(msg, next_step="look at the agent's log")
        if isinstance(ask.error, ModelError):
            raise ask.error
        if ask.error is not None:
            raise ModelError(f"models.{self._slot}: {ask.error}") from ask.error

    def _answer(self, timeout_seconds: float) -> None:
        try:
            ask = self._asked.get(timeout=timeout_seconds)
        except Empty:
            return
        try:
            ask.body()
        except (EdgeError, OSError) as error:
            ask.error = error
        ask.is_done.set()
