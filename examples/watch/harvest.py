# SPDX-License-Identifier: Apache-2.0
"""The measurements at the end of a demo: agents are stopped, the server still answers.

Owns: asking agents, server and result files for what `facts` judges. It judges nothing.
"""

from __future__ import annotations

import typing

from examples.watch import data
from examples.watch.facts import Ledger, Outcome, Traffic
from examples.watch.measure import Accuracy, first_unlabelled_rows, score

if typing.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.watch.loop import Loop
    from examples.watch.measure import Answer
    from examples.watch.programs import Document

__all__ = ["harvest"]

_ROW_BYTES = len(data.FEATURES) * 4


class _Accuracies(typing.NamedTuple):
    before: Accuracy
    drifted: Accuracy
    after: Accuracy
    others_after: Accuracy


def harvest(loop: Loop) -> Outcome:
    """Put together what was measured."""
    answers = loop.read_answers()
    listed = loop.server.list_devices()
    verdicts = {device: loop.server.list_verdicts(device) for device in listed}
    flagged = {device: found for device, found in verdicts.items() if found}
    second = loop.releases[-1].digest
    return Outcome(
        **_score_all(loop, answers)._asdict(),
        moved=loop.moved,
        flagged={device: _name_features(found) for device, found in flagged.items()},
        delay_windows={
            device: int(found[-1]["windows_at_decision"])
            - loop.windows_at_change[device]
            for device, found in flagged.items()
        },
        windows_after_change=_count_drifted_windows(loop, answers),
        is_clear=not loop.server.list_open_verdicts(),
        updated=sum(
            second in dict(one["serving"] or {}).values() for one in listed.values()
        ),
        failed=sum(int(one["totals"]["failed"]) for one in listed.values())
        + sum(answer.exercise is None for answer in answers),
        books={device: _read_books(loop, device, listed[device]) for device in listed},
        killed=f"watch-{loop.plan.killed}",
        traffic={device: _read_traffic(one) for device, one in listed.items()},
        sample_bytes=loop.samples,
        memory=loop.memory,
        seconds=loop.console.step_seconds,
    )


def _score_all(loop: Loop, answers: Sequence[Answer]) -> _Accuracies:
    first, second = loop.releases[0].digest, loop.releases[-1].digest
    boundaries = first_unlabelled_rows(
        data.select(loop.recordings, loop.plan.moved, "left")
    )
    left = [answer for answer in answers if answer.is_left]
    right = [answer for answer in answers if not answer.is_left]
    return _Accuracies(
        before=score(right, lambda a: a.digest == first),
        drifted=score(left, lambda a: a.digest == first),
        after=score(
            left,
            lambda a: a.digest == second and a.start_row >= boundaries[a.recording],
        ),
        others_after=score(right, lambda a: a.digest == second),
    )


def _count_drifted_windows(loop: Loop, answers: Sequence[Answer]) -> int:
    """The fewest left-arm frames that a moved device gave its first release.

    A frame brings a window's worth of new rows, 64, or twice that at a recording's
    beginning: so many frames are at least so many windows.
    """
    first = loop.releases[0].digest
    counts = dict.fromkeys((str(subject) for subject in loop.plan.moved), 0)
    for answer in answers:
        if answer.is_left and answer.digest == first:
            counts[answer.recording.split("L-", maxsplit=1)[0]] += 1
    return min(counts.values())


def _name_features(verdicts: Sequence[Document]) -> tuple[str, ...]:
    names = [str(moved["name"]) for one in verdicts for moved in one["features"]]
    return tuple(dict.fromkeys(names))


def _read_traffic(listed: Document) -> Traffic:
    totals: Mapping[str, int] = listed["totals"]
    return Traffic(int(totals["rows"]) * _ROW_BYTES, int(totals["bytes"]))


def _read_books(loop: Loop, device: str, listed: Document) -> Ledger:
    status, totals = loop.watches[device].read_status(), listed["totals"]
    return Ledger(
        produced=int(status["produced"]),
        open=int(status["open_inferences"]),
        closed=int(status["windows_closed"]),
        waiting=int(status["outbox_pending"]),
        counted=int(totals["inferences"]),
        lost=int(totals["lost"]),
        received=int(totals["windows"]),
    )
