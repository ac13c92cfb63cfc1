# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still until a test moves it."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """The in-memory ``edge_agent.clock.Clock``."""

    now_us: int = 1_800_000_000_000_000
    synced: bool = True

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us

    def is_synced(self) -> bool:
        return self.synced
