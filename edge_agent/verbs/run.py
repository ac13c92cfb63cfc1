# SPDX-License-Identifier: Apache-2.0
"""``edge-agent run``: the agent as a process, with its signals and its service manager.

Owns what is outside the agent: SIGTERM and SIGINT stop it, SIGHUP has it read its
configuration again, SIGUSR1 has all stacks written to stderr, and a start anew replaces
the process by the same one.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.config.environment import read_variable
from edge_agent.daemon.agent import Agent, Program
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.pauses import shorten_pauses
from edge_agent.logs import set_up_logging
from edge_agent.verbs.configuration import read_layers


def run(path: Path, flags: Sequence[str]) -> int:
    """Run the agent until it is told to stop.

    Args:
        path: The configuration file.
        flags: ``KEY=VALUE`` each.

    Raises:
        EdgeError: It cannot start, or a part failed for good.
    """
    path = path.resolve()
    layers = read_layers(path, flags)
    set_up_logging(layers.resolve().config.log.level)
    faulthandler.register(signal.SIGUSR1)
    notifier = Notifier(
        read_variable("NOTIFY_SOCKET"),
        read_variable("WATCHDOG_USEC"),
        read_variable("WATCHDOG_PID"),
    )
    with ExitStack() as stack:
        stack.enter_context(closing(notifier))
        program = Program(path, flags)
        agent = Agent(layers, program, SystemClock(), notifier, stack)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        signal.signal(
            signal.SIGHUP, lambda *_: agent.reload(lambda: read_layers(path, flags))
        )
        shorten_pauses()
        agent.run()
    if agent.wants_restart:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, no shell
    return 0
