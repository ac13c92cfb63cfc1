# SPDX-License-Identifier: Apache-2.0
"""REST routes of alerts.

Owns ``/alerts``: reading them, and what people do about them. Each act is in the audit
log.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from fleet.alerts.documents import alert_document
from fleet.alerts.lifecycle import ANY
from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.errors import NotFoundError, RequestError
from fleet.services import Services
from fleet.store.alerts import (
    ack_alert,
    delete_alert_mute,
    find_alert,
    insert_note,
    list_alert_deliveries,
    list_alert_mutes,
    list_alerts,
    list_notes,
    replace_alert_mute,
)
from fleet.store.engine import reading, writing

_SECOND_US = 1_000_000
_MOST_MUTED_SECONDS = 90 * 24 * 3600
_MOST_LISTED = 500
_DELIVERY = ("channel", "event", "attempts", "next_us", "done_us", "outcome", "error")


class AlertNote(BaseModel):
    """The body of acknowledging an alert, or of a note on it."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(default="", max_length=1000)


class AlertSubject(BaseModel):
    """Which alerts are meant; ``*`` is any."""

    model_config = ConfigDict(extra="forbid")

    fleet: str = "default"
    rule: str = Field(default=ANY, min_length=1, max_length=40)
    subject: str = Field(default=ANY, min_length=1, max_length=200)


class AlertMute(AlertSubject):
    """The body of muting alerts."""

    seconds: int = Field(gt=0, le=_MOST_MUTED_SECONDS)
    reason: str = Field(min_length=1, max_length=200)


def build_router(services: Services) -> APIRouter:
    """Build the routes."""
    router = APIRouter()
    _add_reading(router, services)
    _add_acts(router, services)
    _add_mutes(router, services)
    return router


def _add_reading(router: APIRouter, services: Services) -> None:
    @router.get("/alerts")
    def get_alerts(fleet: str | None = None, *, closed: bool = False) -> dict[str, Any]:
        with reading(services.engine) as connection:
            rows = list_alerts(connection, fleet, limit=_MOST_LISTED, closed=closed)
            mutes = list_alert_mutes(connection, services.clock.wall_us())
        return {"alerts": [alert_document(one) for one in rows], "mutes": list(mutes)}

    @router.get("/alerts/{alert_id}")
    def get_alert(alert_id: int) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return _whole(connection, alert_id)


def _add_acts(router: APIRouter, services: Services) -> None:
    @router.post("/alerts/{alert_id}/ack")
    def post_ack(alert_id: int, body: AlertNote, request: Request) -> dict[str, Any]:
        now_us, actor = services.clock.wall_us(), find_request_actor(request)
        with writing(services.engine) as connection:
            row = find_alert(connection, alert_id)
            ack_alert(connection, alert_id, now_us=now_us, by=actor)
            if body.note:
                insert_note(
                    connection, alert_id, now_us=now_us, author=actor, text=body.note
                )
            append_audit(
                connection,
                time_us=now_us,
                actor=actor,
                action="alert.ack",
                subject=row["subject"],
                detail={"alert": alert_id, "rule": row["rule"], "note": body.note},
            )
            return _whole(connection, alert_id)

    @router.post("/alerts/{alert_id}/notes")
    def post_note(alert_id: int, body: AlertNote, request: Request) -> dict[str, Any]:
        if not body.note:
            message = f"alert {alert_id}: expected a note, found an empty one"
            raise RequestError(message, next_step="write what you know about it")
        now_us, actor = services.clock.wall_us(), find_request_actor(request)
        with writing(services.engine) as connection:
            find_alert(connection, alert_id)
            insert_note(
                connection, alert_id, now_us=now_us, author=actor, text=body.note
            )
            return _whole(connection, alert_id)


def _add_mutes(router: APIRouter, services: Services) -> None:
    @router.post("/alerts/mutes")
    def post_mute(body: AlertMute, request: Request) -> dict[str, Any]:
        _check_fleet(services, body.fleet)
        now_us, actor = services.clock.wall_us(), find_request_actor(request)
        key = {"fleet": body.fleet, "rule": body.rule, "subject": body.subject}
        until_us = now_us + body.seconds * _SECOND_US
        values = {**key, "until_us": until_us, "reason": body.reason}
        with writing(services.engine) as connection:
            replace_alert_mute(connection, values | {"created_by": actor})
            append_audit(
                connection,
                time_us=now_us,
                actor=actor,
                action="alert.mute",
                subject=body.subject,
                detail=values,
            )
        return values

    @router.post("/alerts/unmute")
    def post_unmute(body: AlertSubject, request: Request) -> dict[str, Any]:
        key = {"fleet": body.fleet, "rule": body.rule, "subject": body.subject}
        with writing(services.engine) as connection:
            if not delete_alert_mute(connection, (body.fleet, body.rule, body.subject)):
                message = (
                    f"mute of {body.rule} {body.subject} in {body.fleet}: "
                    "expected one that holds, found none"
                )
                step = "see `edge-fleet alert list --json`, key mutes"
                raise NotFoundError(message, next_step=step)
            append_audit(
                connection,
                time_us=services.clock.wall_us(),
                actor=find_request_actor(request),
                action="alert.unmute",
                subject=body.subject,
                detail=key,
            )
        return key


def _whole(connection: Connection, alert_id: int) -> dict[str, Any]:
    deliveries = list_alert_deliveries(connection, alert_id)
    return {
        **alert_document(find_alert(connection, alert_id)),
        "notes": list(list_notes(connection, alert_id)),
        "deliveries": [{name: one[name] for name in _DELIVERY} for one in deliveries],
    }


def _check_fleet(services: Services, fleet: str) -> None:
    if fleet != ANY and fleet not in services.config.fleets:
        known = ", ".join(services.config.fleets)
        message = f"fleet: expected one of {known}, or {ANY}, found {fleet}"
        raise RequestError(message, next_step="name one of them with --fleet")
