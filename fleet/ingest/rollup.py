# SPDX-License-Identifier: Apache-2.0
"""Adding a window into the roll-ups of its stream.

Owns writing the table ``rollups``: one row an hour (of event time) and one for all
time, each the exact sum of its windows.
"""

from sqlalchemy import Connection, insert, select, update

from edge_contract.profile import Layout
from edge_contract.window import WindowStatistics, merge
from fleet.store.statistics import statistics_from_columns, statistics_to_columns
from fleet.store.tables import rollups


def add_to_rollups(
    connection: Connection,
    device: str,
    statistics: WindowStatistics,
    layout: Layout,
    *,
    hour_us: int | None,
    lost: int,
) -> None:
    """Add one window's statistics to the roll-ups that it belongs to.

    Args:
        connection: The caller's write transaction.
        device: The device.
        statistics: What to add.
        layout: The layout of its reference profile.
        hour_us: Start of the window's hour; None when its time is not known.
        lost: Inferences that the window declares lost.
    """
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
            connection.execute(insert(rollups).values(**row, windows=1, lost=lost))
            continue
        total = merge(statistics_from_columns(old, layout), statistics, layout)
        values = statistics_to_columns(total)
        values |= {"windows": old["windows"] + 1, "lost": old["lost"] + lost}
        connection.execute(update(rollups).where(*where).values(**values))
