# SPDX-License-Identifier: Apache-2.0
"""Predictions computed ahead, as a verb: the model and the table are brought together.

Owns what the store is told of the model; ``edge_agent.batch`` does the work.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from edge_agent.batch.run import Job, run_batch
from edge_agent.batch.table import Form
from edge_agent.clock import SystemClock
from edge_agent.runtime.model import Model
from edge_agent.verbs.answer import Answer


def compute(
    model: Model, table: Path, key: str, target: Path, report: Callable[[int], None]
) -> Answer:
    """Compute what is missing in a store.

    Args:
        model: Computes.
        table: The input.
        key: Its column or array of keys; empty for row numbers.
        target: ``.sqlite`` or ``.parquet``.
        report: Hears every two seconds how many rows are done.

    Raises:
        BatchError: The table does not fit the model, or the target cannot be written.
    """
    manifest = model.manifest
    job = Job(
        table,
        Form(manifest.frame_shape, manifest.input.features, key),
        (manifest.name, model.digest, model.variant.id),
        json.dumps(model.labels),
    )
    clock_us = SystemClock().monotonic_us
    outcome = run_batch(job, model, target, clock_us=clock_us, report=report)
    document = {
        "output": str(target),
        "model": manifest.name,
        "digest": model.digest,
        **asdict(outcome),
    }
    text = f"{target}: {outcome.rows} rows, {outcome.failed} without output"
    return Answer(document, text)
