# SPDX-License-Identifier: Apache-2.0
"""Reading models and rollouts, for the pages that show them.

Owns these queries. Only ``registry`` and ``rollout`` write the tables.
"""

from typing import Any

from sqlalchemy import Connection, select

from fleet.store.tables import models, rollout_phases, rollouts


def list_model_names(connection: Connection) -> dict[str, str]:
    """Return the name of each release by its digest: ``name r3``."""
    query = select(models.c.digest, models.c.name, models.c.release_counter)
    rows = connection.execute(query)
    return {one.digest: f"{one.name} r{one.release_counter}" for one in rows}


def list_releases(connection: Connection) -> list[dict[str, Any]]:
    """Return ``digest`` and ``name`` of each model's releases."""
    query = select(models.c.digest, models.c.name)
    return [dict(one) for one in connection.execute(query).mappings()]


def list_latest_rollouts(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """Return the latest rollouts with their ``phases``, the latest first."""
    query = select(rollouts).order_by(rollouts.c.created_us.desc()).limit(limit)
    found = [dict(one) for one in connection.execute(query).mappings()]
    for one in found:
        phases = (
            select(rollout_phases)
            .where(rollout_phases.c.rollout == one["id"])
            .order_by(rollout_phases.c.number)
        )
        one["phases"] = [dict(row) for row in connection.execute(phases).mappings()]
    return found
