# SPDX-License-Identifier: Apache-2.0
"""The facts that the demo must show, and the table that shows them.

Owns: what has to hold for the loop to count as closed, and the words for it. Pure: it
gets measurements and gives text and a verdict.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

if typing.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.watch.measure import Accuracy

__all__ = ["Fact", "Ledger", "Outcome", "Traffic", "format_facts", "judge"]

LEAST_RECOVERED = 0.80
LEAST_LOST_TO_DRIFT = 0.30
LEAST_WINDOWS_AFTER_CHANGE = 150


@dataclass(frozen=True)
class Ledger:
    """The books of one device, agent's side and server's side.

    Attributes:
        produced: Inferences that the agent ever made.
        open: Of these, those in the window that is still open.
        closed: Windows that the agent ever closed.
        waiting: Windows that the agent still holds.
        counted: Inferences that the server counted.
        lost: Inferences that the agent declared lost and the server noted.
        received: Windows that the server counted.
    """

    produced: int
    open: int
    closed: int
    waiting: int
    counted: int
    lost: int
    received: int

    @property
    def is_exact(self) -> bool:
        """Whether nothing is missing and nothing was counted twice."""
        return (
            self.produced == self.counted + self.lost + self.open
            and self.closed == self.received
            and self.waiting == 0
        )


@dataclass(frozen=True)
class Traffic:
    """What one device saw and what left it, in bytes.

    Attributes:
        raw: Sensor rows as float32.
        messages: Payloads of all messages, with their envelopes.
    """

    raw: int
    messages: int


@dataclass(frozen=True)
class Outcome:
    """Everything that was measured.

    Attributes:
        before: Right arm, first release, all six.
        drifted: Left arm, first release, the two that moved.
        after: Left arm, second release, frames that nobody labelled.
        others_after: Right arm, second release, the four that did not move.
        moved: The devices that changed arms.
        flagged: Every device that ever had a verdict, with the features named.
        delay_windows: Windows from the change to the verdict, a flagged device.
        windows_after_change: The fewest windows of a moved device on the first release.
        is_clear: Whether no verdict was open at the end.
        updated: Devices that committed the second release.
        failed: Inferences that failed, over all devices.
        books: The books of every device; one of them was killed.
        killed: The device that was killed.
        traffic: Bytes of every device.
        sample_bytes: Labelled samples received, a device.
        memory: Proportional memory of every agent, in bytes.
        seconds: How long each step took.
    """

    before: Accuracy
    drifted: Accuracy
    after: Accuracy
    others_after: Accuracy
    moved: tuple[str, ...]
    flagged: Mapping[str, tuple[str, ...]]
    delay_windows: Mapping[str, int]
    windows_after_change: int
    is_clear: bool
    updated: int
    failed: int
    books: Mapping[str, Ledger]
    killed: str
    traffic: Mapping[str, Traffic]
    sample_bytes: Mapping[str, int]
    memory: Mapping[str, int]
    seconds: Mapping[str, float]


class Fact(typing.NamedTuple):
    """One line of the table.

    Attributes:
        name: What it is about.
        found: What was measured.
        asked: What has to hold; empty where nothing is asked.
        holds: Whether it does.
    """

    name: str
    found: str
    asked: str = ""
    holds: bool = True


def judge(outcome: Outcome) -> list[Fact]:
    """Hold the measurements against what the loop promises."""
    return [
        *_accuracy_facts(outcome),
        *_drift_facts(outcome),
        *_exactness_facts(outcome),
        *_cost_facts(outcome),
    ]


def _accuracy_facts(outcome: Outcome) -> list[Fact]:
    fall = outcome.before.share - outcome.drifted.share
    recovered = outcome.after.share
    return [
        Fact("true accuracy before", _format_accuracy(outcome.before)),
        Fact(
            "true accuracy drifted",
            _format_accuracy(outcome.drifted),
            f"falls by {LEAST_LOST_TO_DRIFT:.2f} or more",
            fall >= LEAST_LOST_TO_DRIFT,
        ),
        Fact(
            "true accuracy after, unlabelled part",
            _format_accuracy(outcome.after),
            f"{LEAST_RECOVERED:.2f} or more",
            outcome.after.frames > 0 and recovered >= LEAST_RECOVERED,
        ),
        Fact(
            "the other four after",
            _format_accuracy(outcome.others_after),
            f"{LEAST_RECOVERED:.2f} or more",
            outcome.others_after.share >= LEAST_RECOVERED,
        ),
    ]


def _drift_facts(outcome: Outcome) -> list[Fact]:
    moved = ", ".join(outcome.moved)
    flagged = "; ".join(
        f"{device} ({', '.join(features)})"
        for device, features in sorted(outcome.flagged.items())
    )
    delays = ", ".join(
        f"{device} {count}" for device, count in sorted(outcome.delay_windows.items())
    )
    return [
        Fact(
            "devices flagged",
            flagged or "none",
            f"exactly {moved}",
            set(outcome.flagged) == set(outcome.moved),
        ),
        Fact("detection delay in windows", delays or "none"),
        Fact(
            "windows after the change",
            str(outcome.windows_after_change),
            f"{LEAST_WINDOWS_AFTER_CHANGE} or more",
            outcome.windows_after_change >= LEAST_WINDOWS_AFTER_CHANGE,
        ),
        Fact(
            "verdicts open at the end",
            "none" if outcome.is_clear else "some",
            "none",
            outcome.is_clear,
        ),
    ]


def _exactness_facts(outcome: Outcome) -> list[Fact]:
    books = outcome.books.values()
    wrong = sorted(device for device, b in outcome.books.items() if not b.is_exact)
    windows = sum(b.received for b in books)
    found = f"{sum(b.closed for b in books)} closed, {windows} counted"
    produced, counted = sum(b.produced for b in books), sum(b.counted for b in books)
    lost, still_open = sum(b.lost for b in books), sum(b.open for b in books)
    inferences = f"{produced} = {counted} counted + {lost} lost + {still_open} open"
    everyone = len(outcome.books)
    return [
        Fact(
            "windows",
            found if not wrong else f"{found}; wrong: {', '.join(wrong)}",
            "each exactly once",
            not wrong,
        ),
        Fact(
            f"inferences ({outcome.killed} was killed)",
            inferences,
            "to the unit",
            not wrong,
        ),
        Fact("failed inferences", str(outcome.failed), "0", outcome.failed == 0),
        Fact(
            "devices on the second release",
            f"{outcome.updated} of {everyone}",
            f"{everyone}",
            outcome.updated == everyone,
        ),
    ]


def _cost_facts(outcome: Outcome) -> list[Fact]:
    raw = sum(t.raw for t in outcome.traffic.values())
    sent = sum(t.messages for t in outcome.traffic.values())
    count = max(1, len(outcome.traffic))
    share = f" ({sent / raw:.1%})" if raw else ""
    samples = ", ".join(
        f"{device} {_format_bytes(size)}"
        for device, size in sorted(outcome.sample_bytes.items())
    )
    memory = [size / 2**20 for size in outcome.memory.values()]
    return [
        Fact(
            "bytes sent a device",
            f"{_format_bytes(sent // count)} of {_format_bytes(raw // count)}"
            f" raw{share}",
        ),
        Fact("labelled samples, asked for", samples or "none"),
        Fact(
            "agent memory (PSS)",
            f"{min(memory):.0f} to {max(memory):.0f} MiB" if memory else "unknown",
        ),
        Fact(
            "seconds",
            ", ".join(f"{step} {taken:.0f}" for step, taken in outcome.seconds.items())
            + f"; all {sum(outcome.seconds.values()):.0f}",
        ),
    ]


def format_facts(facts: Sequence[Fact]) -> str:
    """Lay the facts out as a table."""
    width = max(len(fact.name) for fact in facts)
    lines = []
    for fact in facts:
        mark = "ok" if fact.holds else "NO"
        asked = f"  [{mark}: {fact.asked}]" if fact.asked else ""
        lines.append(f"{fact.name:<{width}}  {fact.found}{asked}")
    return "\n".join(lines)


def _format_accuracy(accuracy: Accuracy) -> str:
    return f"{accuracy.share:.3f} ({accuracy.frames} frames)"


def _format_bytes(size: int) -> str:
    return f"{size / 1024:.1f} KiB"
