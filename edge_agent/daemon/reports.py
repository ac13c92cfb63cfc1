# SPDX-License-Identifier: Apache-2.0
"""Events: what the agent tells of itself at once, through the outbox.

Owns the form and the names of the daemon's own events. An outbox that refuses drops
the event, which is in the log all the same: serving never waits for it.
"""

import logging
from collections.abc import Mapping
from typing import Final, Literal

from edge_agent.clock import Clock
from edge_agent.errors import AgentError
from edge_agent.telemetry.outbox import Build, Outbox
from edge_agent.telemetry.publisher import URGENT_LANE
from edge_contract.messages import Event
from edge_contract.wire import Scalar

MAX_DETAIL: Final = 400
Severity = Literal["info", "warning", "error"]
_LEVELS: Final = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LOG = logging.getLogger(__name__)


class Reporter:
    """Puts events into the outbox and the log.

    Args:
        outbox: Takes them.
        clock: Stamps them.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock

    def event(
        self,
        name: str,
        severity: Severity,
        detail: str,
        fields: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Tell of something that should not wait for the next window."""
        _LOG.log(_LEVELS[severity], "%s: %s", name, detail)

        def build(boot_id: bytes, seq: int) -> Event:
            return Event(
                boot_id=boot_id,
                seq=seq,
                name=name,
                severity=severity,
                time_us=self._clock.wall_us(),
                detail=detail[:MAX_DETAIL],
                fields=dict(fields or {}),
            )

        self.append(build)

    def append(self, build: Build) -> None:
        """Put a report into the outbox, first in line."""
        try:
            self._outbox.append(URGENT_LANE, build)
        except AgentError as error:
            _LOG.warning("a report was dropped: %s", error)
