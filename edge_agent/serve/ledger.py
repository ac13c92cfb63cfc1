# SPDX-License-Identifier: Apache-2.0
"""What the service did with each model: counts and durations, as ``…/stats`` has them.

Owns the counters; ``catalog`` writes them as JSON and gRPC as a message. They begin
anew with the process: operational metrics are the daemon's.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds of the parts of one request, or the sum of many."""

    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    @property
    def total_ns(self) -> int:
        """All parts together."""
        return self.input_ns + self.infer_ns + self.output_ns


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to the requests for one version of one model.

    Attributes:
        requests: Answered.
        rows: Frames in them.
        failed: Requests refused or failed once the model was known.
        failed_ns: What those took.
        times: Of the answered ones.
        by_rows: Of the answered ones, by their number of frames.
        last_us: When the last one was answered; 0 before.
    """

    requests: int = 0
    rows: int = 0
    failed: int = 0
    failed_ns: int = 0
    times: Times = field(default_factory=Times)
    by_rows: Mapping[int, tuple[int, Times]] = field(default_factory=dict)
    last_us: int = 0


class Ledger:
    """Counts by slot; any thread may write or read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counts] = {}

    def read(self, name: str) -> Counts:
        """Return what was counted for a slot."""
        return self._counts.get(name, Counts())

    def add_answer(self, name: str, rows: int, times: Times, now_us: int) -> None:
        """Count one answered request."""
        with self._lock:
            old = self.read(name)
            count, sums = old.by_rows.get(rows, (0, Times()))
            self._counts[name] = replace(
                old,
                requests=old.requests + 1,
                rows=old.rows + rows,
                times=_add(old.times, times),
                by_rows={**old.by_rows, rows: (count + 1, _add(sums, times))},
                last_us=now_us,
            )

    def add_failure(self, name: str, spent_ns: int) -> None:
        """Count one request that came to nothing."""
        with self._lock:
            old = self.read(name)
            self._counts[name] = replace(
                old, failed=old.failed + 1, failed_ns=old.failed_ns + spent_ns
            )


def _add(first: Times, second: Times) -> Times:
    return Times(
        first.input_ns + second.input_ns,
        first.infer_ns + second.infer_ns,
        first.output_ns + second.output_ns,
    )
