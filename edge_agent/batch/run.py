# SPDX-License-Identifier: Apache-2.0
"""Computing predictions ahead: from where the last run ended to the end of the table.

Owns the loop. The model is passed in: this package loads none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from edge_agent.batch.parquet import check_installed, write_parquet
from edge_agent.batch.store import BatchStore, Identity, Prediction
from edge_agent.batch.table import Block, Form, find_digest, read_blocks
from edge_agent.errors import BackendError, BatchError
from edge_agent.flow import Float32

COMMIT_US: Final = 1_000_000
REPORT_US: Final = 2_000_000


class Predictor(Protocol):
    """A loaded model, as ``edge_agent.load`` gives it."""

    def infer(self, data: Float32) -> Float32:
        """Return float32 [K] for one frame.

        Raises:
            BackendError: The runtime failed.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """What shall be computed.

    Attributes:
        table: The input.
        form: What it must hold.
        model: Name, release digest and variant of the predictor.
        labels: Names of its classes, as JSON.
    """

    table: Path
    form: Form
    model: tuple[str, str, str]
    labels: str

    @property
    def identity(self) -> Identity:
        """What a store must be of to be gone on with; reads the table."""
        return Identity(
            find_digest(self.table), self.form.key, *self.model, self.labels
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished store holds."""

    rows: int
    failed: int


def run_batch(
    job: Job,
    predictor: Predictor,
    target: Path,
    *,
    clock_us: Callable[[], int],
    report: Callable[[int], None],
) -> Outcome:
    """Compute what is missing in ``target``.

    A Parquet file is written at the end, from a store beside it that a run which was
    killed leaves to the next.

    Args:
        job: See there.
        predictor: Computes.
        target: ``.sqlite``, or ``.parquet`` (extra ``parquet``).
        clock_us: A clock that never goes back.
        report: Hears every two seconds how many rows are done.

    Raises:
        BatchError: The table is not of its form, or the target cannot be written.
    """
    kind = target.suffix.lower()
    if kind == ".sqlite":
        with BatchStore(target, job.identity) as store:
            return _fill(store, job, predictor, clock_us, report)
    if kind != ".parquet":
        msg = f"{target}: expected .sqlite or .parquet, found {target.suffix!r}"
        raise BatchError(msg, next_step="name a file of one of these kinds with -o")
    check_installed()
    work = target.with_name(f"{target.name}.partial")
    if target.exists() and not work.exists():
        msg = f"{target}: expected no file, found one"
        raise BatchError(msg, next_step="name another file with -o, or remove this one")
    with BatchStore(work, job.identity) as store:
        outcome = _fill(store, job, predictor, clock_us, report)
        write_parquet(store, target)
    work.unlink()
    return outcome


def _fill(
    store: BatchStore,
    job: Job,
    predictor: Predictor,
    clock_us: Callable[[], int],
    report: Callable[[int], None],
) -> Outcome:
    waiting: list[Prediction] = []
    committed = reported = clock_us()
    for block in read_blocks(job.table, job.form, store.done):
        waiting += _predict(predictor, block)
        now = clock_us()
        if now - committed >= COMMIT_US:
            store.append(waiting)
            waiting, committed = [], now
        if now - reported >= REPORT_US:
            report(store.done)
            reported = now
    store.append(waiting)
    store.finish()
    return Outcome(store.done, store.count_failed())


def _predict(predictor: Predictor, block: Block) -> list[Prediction]:
    found = []
    for row, (key, frame) in enumerate(zip(block.keys, block.frames, strict=True)):
        output: Float32 | None
        try:
            output, error = predictor.infer(frame), None
        except BackendError as caught:
            output, error = None, str(caught)
        if output is not None and not np.isfinite(output).all():
            output, error = None, "the output is not finite"
        found.append(Prediction(key, block.start + row, output, error))
    return found
