# SPDX-License-Identifier: Apache-2.0
"""A symptom: one thing that is wrong now, with its words.

Owns the value that rules give and the lifecycle of alerts takes, and how long each
rule's symptom must last before it is told. Pure.
"""

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["serious", "notice"]
MOST_SUBJECT: Final = 200

# Rules whose symptom may be gone with the next message wait; seconds.
HOLD_SECONDS: Final = {
    "clock_wrong": 600.0,
    "memory": 300.0,
    "temperature": 300.0,
    "latency": 600.0,
    "outbox": 300.0,
}


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something that is wrong.

    Attributes:
        rule: Which rule says so, e.g. ``device_silent``.
        fleet: Where; ``*`` when no fleet is concerned alone.
        subject: What it is about: a device, a device's part, a rollout, ``fleet``.
        device: The device, None where it is about no single one.
        level: How bad.
        title: What is wrong, in one line.
        next_step: What to do about it.
        link: The page of the dashboard to look at.
        begins: Whether it is bad enough to begin an alert; else it only keeps one
            that is open (the band between the two limits).
    """

    rule: str
    fleet: str
    subject: str
    device: str | None
    level: Level
    title: str
    next_step: str
    link: str = "/"
    begins: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one open alert of."""
        return self.rule, self.fleet, self.subject
