# SPDX-License-Identifier: Apache-2.0
"""Periodic work of the features, a thread each.

Owns starting, repeating and stopping ``PeriodicTask``. A task that fails is logged
and tried again at its next turn: one broken feature must not take the others down.
"""

import logging
import threading
from collections.abc import Sequence

from edge_contract.errors import EdgeError
from fleet.services import PeriodicTask

_LOG = logging.getLogger(__name__)


class TaskSupervisor:
    """Runs tasks until stopped."""

    def __init__(self, tasks: Sequence[PeriodicTask]) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(task,), name=task.name)
            for task in tasks
        ]

    def start(self) -> None:
        """Start one thread a task; each runs at once and then every period."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every task finish its turn, then end its thread."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _repeat(self, task: PeriodicTask) -> None:
        while not self._stop.is_set():
            try:
                task.run()
            except EdgeError as error:
                _LOG.error("task %s: %s [%s]", task.name, error, error.code)
            # A supervisor: a defect in one feature is logged, the server goes on.
            except Exception:  # noqa: BLE001 - see above
                _LOG.exception("task %s failed", task.name)
            self._stop.wait(task.every_seconds)
