# SPDX-License-Identifier: Apache-2.0
"""When the server hears that somebody sends the device what is not the server's.

Owns the rule alone: refused down messages are told of at once, then once an hour while
there are more. What a broker may deliver late or twice without any malice (expired,
replayed) is counted in the status and not told. The refusing is in ``telemetry``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

AGAIN_US: Final = 3_600_000_000
INNOCENT: Final = frozenset({"broker", "message.expired", "message.replay"})


@dataclass
class ForgeryWatch:
    """What was told so far."""

    _told: dict[str, int] = field(default_factory=dict)
    _next_us: int | None = None

    def look(self, refused: Mapping[str, int], now_us: int) -> dict[str, int]:
        """Return what to tell: refusals since the last time, by error code.

        Args:
            refused: All refusals since the start.
            now_us: The monotonic time.
        """
        if self._next_us is not None and now_us < self._next_us:
            return {}
        news = {
            code: count - self._told.get(code, 0)
            for code, count in refused.items()
            if code not in INNOCENT and count > self._told.get(code, 0)
        }
        if news:
            self._told |= {code: refused[code] for code in news}
            self._next_us = now_us + AGAIN_US
        return news
