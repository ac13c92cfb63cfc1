# SPDX-License-Identifier: Apache-2.0
"""Adding a window into the roll-ups of its stream.

Owns writing the tables ``rollups``, one row an hour (of event time) and one for all
time, and ``shadows``, one a pair of releases: each the exact sum of its windows.
"""

from sqlalchemy import Connection, insert, select, update

from edge_contract.evidence import (
    Feedback,
    Shadow,
    decode_feedback,
    encode_feedback,
    merge_feedback,
)
from edge_contract.profile import Layout
from edge_contract.window import WindowStatistics, merge
from edge_contract.window_report import WindowReport
from fleet.store.statistics import statistics_from_columns, statistics_to_columns
from fleet.store.tables import rollups, shadows


def add_to_rollups(
    connection: Connection,
    device: str,
    statistics: WindowStatistics,
    layout: Layout,
    *,
    hour_us: int | None,
    report: WindowReport,
) -> None:
    """Add one window's statistics to the roll-ups that it belongs to.

    Args:
        connection: The caller's write transaction.
        device: The device.
        statistics: What to add.
        layout: The layout of its reference profile.
        hour_us: Start of the window's hour; None when its time is not known.
        report: The window, for what it lost and the labels it tells of.
    """
    lost, feedback = report.lost, report.feedback()
    buckets = [("all", 0)] + ([] if hour_us is None else [("hour", hour_us)])
    for level, bucket_us in buckets:
        key = {
            "device": device,
            "ref_id": statistics.ref_id,
            "level": level,
            "bucket_us": bucket_us,
        }
        where = [rollups.c[name] == value for name, value in key.items()]
        old = connection.execute(select(rollups).where(*where)).mappings().first()
        if old is None:
            row = statistics_to_columns(statistics) | key
            row |= {"windows": 1, "lost": lost, "feedback": _add(None, feedback)}
            connection.execute(insert(rollups).values(**row))
            continue
        total = merge(statistics_from_columns(old, layout), statistics, layout)
        values = statistics_to_columns(total)
        values |= {"windows": old["windows"] + 1, "lost": old["lost"] + lost}
        values["feedback"] = _add(old["feedback"], feedback)
        connection.execute(update(rollups).where(*where).values(**values))


def add_to_shadows(
    connection: Connection, device: str, report: WindowReport, shadow: Shadow
) -> None:
    """Add what a shadow made of a window's inputs to its sum."""
    key = {
        "device": device,
        "digest8": report.release,
        "shadow8": shadow.release,
    }
    where = [shadows.c[name] == value for name, value in key.items()]
    done = connection.execute(
        update(shadows)
        .where(*where)
        .values(
            compared=shadows.c.compared + shadow.compared,
            disagreed=shadows.c.disagreed + shadow.disagreed,
        )
    )
    if done.rowcount == 0:
        numbers = {"compared": shadow.compared, "disagreed": shadow.disagreed}
        connection.execute(
            insert(shadows).values(**key, ref_id=report.ref_id, **numbers)
        )


def _add(block: bytes | None, feedback: Feedback | None) -> bytes | None:
    """Return the feedback block of both; None where no label came."""
    if feedback is None:
        return block
    old = Feedback.none() if block is None else decode_feedback(block)
    return encode_feedback(merge_feedback(old, feedback))
