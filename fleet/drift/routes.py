# SPDX-License-Identifier: Apache-2.0
"""REST routes of drift.

Owns ``/drift``: reading documents, and what people do about verdicts. Each act is in
the audit log. What devices are asked to do is in ``acts``.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.drift.acts import add_act_routes
from fleet.drift.documents import DriftDocuments, verdict_document
from fleet.errors import RequestError
from fleet.services import Services
from fleet.store.devices import find_device
from fleet.store.drift import (
    ack_verdict,
    close_verdict,
    find_verdict,
    list_fleet_verdicts,
    list_mutes,
    replace_mute,
)
from fleet.store.engine import reading, writing

_SECOND_US = 1_000_000
_MOST_MUTED_SECONDS = 90 * 24 * 3600
_MOST_LISTED = 200


class Ack(BaseModel):
    """The body of acknowledging a verdict."""

    model_config = ConfigDict(extra="forbid")

    relearn: bool = False


class Mute(BaseModel):
    """The body of muting a subject."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(min_length=1, max_length=200)
    fleet: str = "default"
    seconds: int = Field(gt=0, le=_MOST_MUTED_SECONDS)
    reason: str = Field(min_length=1, max_length=200)


def build_router(services: Services, documents: DriftDocuments) -> APIRouter:
    """Build the routes."""
    router = APIRouter()
    add_act_routes(router, services)

    @router.get("/drift")
    def get_drift(fleet: str | None = None) -> dict[str, Any]:
        with reading(services.engine) as connection:
            mutes = list_mutes(connection, services.clock.wall_us())
            return documents.read_fleet(connection, fleet) | {"mutes": list(mutes)}

    @router.get("/drift/verdicts")
    def get_verdicts(fleet: str | None = None) -> dict[str, Any]:
        with reading(services.engine) as connection:
            rows = list_fleet_verdicts(connection, fleet, limit=_MOST_LISTED)
            return {"verdicts": [verdict_document(one) for one in rows]}

    @router.get("/drift/verdicts/{verdict_id}")
    def get_verdict(verdict_id: int) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return verdict_document(find_verdict(connection, verdict_id))

    @router.post("/drift/verdicts/{verdict_id}/ack")
    def post_ack(verdict_id: int, body: Ack, request: Request) -> dict[str, Any]:
        actor = find_request_actor(request)
        with writing(services.engine) as connection:
            _ack(connection, services, verdict_id, actor, relearn=body.relearn)
            return verdict_document(find_verdict(connection, verdict_id))

    @router.post("/drift/mutes")
    def post_mute(body: Mute, request: Request) -> dict[str, Any]:
        if body.fleet not in services.config.fleets:
            known = ", ".join(services.config.fleets)
            message = f"fleet: expected one of {known}, found {body.fleet}"
            raise RequestError(message, next_step="name one of them with --fleet")
        now_us = services.clock.wall_us()
        until_us = now_us + body.seconds * _SECOND_US
        actor = find_request_actor(request)
        with writing(services.engine) as connection:
            values = {"until_us": until_us, "reason": body.reason, "created_by": actor}
            replace_mute(connection, body.fleet, body.subject, values)
            append_audit(
                connection,
                time_us=now_us,
                actor=actor,
                action="drift.mute",
                subject=body.subject,
                detail={"fleet": body.fleet, "until_us": until_us, "why": body.reason},
            )
        return {"fleet": body.fleet, "subject": body.subject, "until_us": until_us}

    @router.get("/drift/{device}")
    def get_device_drift(device: str) -> dict[str, Any]:
        with reading(services.engine) as connection:
            find_device(connection, device)
            return documents.read_device(connection, device)

    return router


def _ack(
    connection: Connection,
    services: Services,
    verdict_id: int,
    actor: str,
    *,
    relearn: bool,
) -> None:
    row = find_verdict(connection, verdict_id)
    if relearn and (row["kind"] != "device" or row["slot"] is None):
        message = (
            f"verdict {verdict_id}: expected a device of a fleet of eight or more to "
            f"learn anew, found {row['kind']} of {row['subject']}"
        )
        raise RequestError(message, next_step="acknowledge it without --relearn")
    now_us = services.clock.wall_us()
    ack_verdict(connection, verdict_id, now_us=now_us, by=actor)
    if relearn and row["closed_us"] is None:
        reason = "accepted: the new level is learnt"
        close_verdict(connection, verdict_id, now_us=now_us, reason=reason)
    append_audit(
        connection,
        time_us=now_us,
        actor=actor,
        action="drift.ack",
        subject=row["subject"],
        detail={"verdict": verdict_id, "relearn": relearn},
    )
