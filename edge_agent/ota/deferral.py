# SPDX-License-Identifier: Apache-2.0
"""Why an update has to wait, and until when.

Owns the reasons and the gate that names them: closed windows, a link that costs money,
a spent day, a full disk, a server that asks for patience. Waiting is no failure: what
was fetched is kept, nothing counts as an attempt, and the device looks again by itself.
A rule's policy decides; where it is silent, the device's own terms do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from edge_agent.clock import Clock
from edge_agent.errors import UpdateError
from edge_agent.ota.schedule import next_opening_us
from edge_contract.update_policy import MaintenanceWindow, Metered, UpdatePolicy

_NOW: Final = "`edge-agent update --now` does not wait"


class DeferredError(UpdateError):
    """The update has to wait.

    Args:
        message: Why.
        until_us: Until when, microseconds since the epoch; None: nobody knows.
        next_step: What the reader can do.
    """

    code = "agent.update.deferred"

    def __init__(
        self, message: str, *, until_us: int | None = None, next_step: str = _NOW
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.until_us = until_us


class WindowClosedError(DeferredError):
    """No maintenance window is open."""

    code = "agent.update.window"


class MeteredError(DeferredError):
    """The link costs money, and the policy does not allow for it."""

    code = "agent.update.metered"


class DaySpentError(DeferredError):
    """The bytes of the day are spent."""

    code = "agent.update.budget"


class ServerBusyError(DeferredError):
    """The server asks to come again later."""

    code = "agent.update.server-busy"


class DiskFullError(DeferredError):
    """There is no room for the release."""

    code = "agent.update.disk-full"


@dataclass(frozen=True)
class Terms:
    """What the device itself says of updates.

    Attributes:
        windows: When they may run; none: at any time.
        zone: In which windows are meant.
        is_metered: Tells whether the link costs money now.
        metered: What such a link allows.
        daily_bytes: That all slots together may fetch a day (UTC); None: no limit.
        bytes_a_second: That a download may take; None: no limit.
    """

    windows: tuple[MaintenanceWindow, ...] = ()
    zone: tzinfo = UTC
    is_metered: Callable[[], bool] = lambda: False
    metered: Metered = "allow"
    daily_bytes: int | None = None
    bytes_a_second: int | None = None


@dataclass(frozen=True)
class Gate:
    """Says whether an update may go on.

    Args:
        terms: The device's.
        policy: The rule's.
        clock: The time.
        is_now: A person asked for it: no window, link or budget holds it up.
    """

    terms: Terms
    policy: UpdatePolicy
    clock: Clock
    is_now: bool = False

    def check_time(self) -> None:
        """Refuse to go on outside of the windows.

        Raises:
            WindowClosedError: None is open.
        """
        windows = self.policy.windows
        windows = self.terms.windows if windows is None else windows
        if self.is_now or self.policy.urgent or not windows:
            return
        now_us = self.clock.wall_us()
        until_us = next_opening_us(windows, now_us, self.terms.zone)
        if until_us > now_us:
            opens = datetime.fromtimestamp(until_us / 1e6, self.terms.zone)
            raise WindowClosedError(
                f"update: no maintenance window is open before {opens:%a %H:%M %Z}",
                until_us=until_us,
            )

    def check_link(self, *, is_delta: bool) -> None:
        """Refuse to fetch over a link that costs too much.

        Raises:
            MeteredError: It does.
        """
        rule = self.policy.metered or self.terms.metered
        is_allowed = rule == "allow" or (rule == "deltas" and is_delta)
        if not (self.is_now or is_allowed) and self.terms.is_metered():
            words = "a delta, and there is none" if rule == "deltas" else "none"
            msg = f"update: the link is metered; expected {words} to be fetched"
            raise MeteredError(msg)
