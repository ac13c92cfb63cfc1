# SPDX-License-Identifier: Apache-2.0
"""How often something was refused, by reason and device, and in the last hour.

Owns the table ``refusals``. A refusal that no known device can be blamed for is kept
under the device "".
"""

from sqlalchemy import Connection, case, insert, select, update

from fleet.store.tables import refusals
from fleet.store.windows import HOUR_US

NOBODY = ""


def add_refusals(
    connection: Connection, reason: str, device: str, count: int, now_us: int
) -> None:
    """Add to the count of one reason and device; ``NOBODY`` where it is not known."""
    key = {"reason": reason, "device": device}
    hour = now_us // HOUR_US
    same = case((refusals.c.hour == hour, refusals.c.hour_count), else_=0)
    done = connection.execute(
        update(refusals)
        .where(*(refusals.c[name] == value for name, value in key.items()))
        .values(
            count=refusals.c["count"] + count,
            last_us=now_us,
            hour=hour,
            hour_count=same + count,
        )
    )
    if done.rowcount == 0:
        row = {**key, "count": count, "last_us": now_us}
        row |= {"hour": hour, "hour_count": count}
        connection.execute(insert(refusals).values(row))


def find_refusals(connection: Connection, device: str) -> dict[str, int]:
    """Return the counts of one device, or of ``NOBODY``, by reason."""
    query = select(refusals).where(refusals.c.device == device)
    found = connection.execute(query.order_by(refusals.c.reason)).mappings()
    return {one["reason"]: one["count"] for one in found}
