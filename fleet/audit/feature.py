# SPDX-License-Identifier: Apache-2.0
"""The audit log over HTTP, below ``/api/v1/audit``.

Owns its JSON form. It is only ever read here: features append in their own
transactions.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fleet.audit.log import list_entries, verify_audit
from fleet.services import Feature, Services
from fleet.store.engine import reading

_MOST = 1000
_Limit = Annotated[int, Query(ge=1, le=_MOST)]
_Digest = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]


def build(services: Services) -> Feature:
    """Build the feature."""
    router = APIRouter(tags=["audit"])

    @router.get("/audit")
    def list_audit(
        subject: str | None = None, before: int | None = None, limit: _Limit = 50
    ) -> dict[str, Any]:
        with reading(services.engine) as connection:
            rows = list_entries(connection, subject=subject, before=before, limit=limit)
        return {
            "entries": [
                {
                    **row,
                    "previous": row["previous"].hex(),
                    "digest": row["digest"].hex(),
                }
                for row in rows
            ]
        }

    @router.get("/audit/verify")
    def check_audit(head: _Digest = None) -> dict[str, Any]:
        known = None if head is None else bytes.fromhex(head)
        with reading(services.engine) as connection:
            chain = verify_audit(connection, known)
        return {"entries": chain.entries, "head": chain.head.hex()}

    return Feature(name="audit", routers=(router,))
