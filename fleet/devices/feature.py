# SPDX-License-Identifier: Apache-2.0
"""REST routes of devices.

Owns ``/devices`` and its documents. Keys leave the server here and nowhere else, in
the answer to adding a device.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, RowMapping, select

from edge_contract.selection import parse_query
from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.auth.keyring import KeyRing
from fleet.devices.enrol import Endpoints, insert_devices, make_enrolment
from fleet.errors import RequestError
from fleet.services import Feature, Services
from fleet.store.devices import find_device, list_devices, list_update_reports
from fleet.store.engine import reading, writing
from fleet.store.refusals import NOBODY, find_refusals
from fleet.store.tables import events, outbound
from fleet.store.windows import find_totals

_LATEST_REPORTS = 20


class NewDevices(BaseModel):
    """The body of adding devices."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str]
    fleet: str
    tags: dict[str, str] = Field(default_factory=dict)


def build(services: Services, ring: KeyRing, endpoints: Endpoints) -> Feature:
    """Build the feature."""
    router = APIRouter()

    @router.post("/devices")
    def add_devices(body: NewDevices, request: Request) -> dict[str, Any]:
        if body.fleet not in services.config.fleets:
            known = ", ".join(services.config.fleets)
            message = f"fleet: expected one of {known}, found {body.fleet}"
            raise RequestError(message, next_step="add it to fleets in fleet.yaml")
        now_us = services.clock.wall_us()
        with writing(services.engine) as connection:
            insert_devices(
                connection, body.ids, fleet=body.fleet, tags=body.tags, now_us=now_us
            )
            for one in body.ids:
                append_audit(
                    connection,
                    time_us=now_us,
                    actor=find_request_actor(request),
                    action="device.add",
                    subject=one,
                    detail={"fleet": body.fleet},
                )
        made = {
            one: make_enrolment(one, body.fleet, body.tags, ring, endpoints)
            for one in body.ids
        }
        return {"enrolments": {k: v.to_json().decode() for k, v in made.items()}}

    @router.get("/devices")
    def get_devices(
        fleet: str | None = None, where: str | None = None
    ) -> dict[str, Any]:
        query = None if where is None else parse_query(where)
        with reading(services.engine) as connection:
            rows = [
                row
                for row in list_devices(connection, fleet)
                if query is None or query.matches(row["tags"])
            ]
            return {
                "devices": [
                    _document(row, find_totals(connection, row["id"])) for row in rows
                ],
                "refusals": find_refusals(connection, NOBODY),
            }

    @router.get("/devices/{device}")
    def get_device(device: str) -> dict[str, Any]:
        with reading(services.engine) as connection:
            row = find_device(connection, device)
            document = _document(row, find_totals(connection, device))
            return document | _read_history(connection, row)

    return Feature(name="devices", routers=(router,))


def _read_history(connection: Connection, row: RowMapping) -> dict[str, Any]:
    device = row["id"]
    reports = list_update_reports(connection, device, limit=_LATEST_REPORTS)
    commands = connection.execute(
        select(outbound)
        .where(outbound.c.device == device)
        .order_by(outbound.c.created_us.desc())
        .limit(_LATEST_REPORTS)
    ).mappings()
    told = connection.execute(
        select(events.c.received_us, events.c.body)
        .where(events.c.device == device)
        .order_by(events.c.id.desc())
        .limit(_LATEST_REPORTS)
    ).mappings()
    return {
        "birth": row["birth"],
        "events": [{"received_us": one["received_us"], **one["body"]} for one in told],
        "updates": [
            {"received_us": one["received_us"], **one["body"]} for one in reports
        ],
        "commands": [dict(one) for one in commands],
        "refusals": find_refusals(connection, device),
    }


def _document(row: RowMapping, totals: RowMapping | None) -> dict[str, Any]:
    counted = {} if totals is None else dict(totals)
    counted.pop("device", None)
    return {
        "id": row["id"],
        "fleet": row["fleet"],
        "epoch": row["epoch"],
        "tags": row["tags"],
        "created_us": row["created_us"],
        "revoked": row["revoked_us"] is not None,
        "last_seen_us": row["last_seen_us"],
        "online_hint": row["online_hint"],
        "serving": row["serving"],
        "totals": counted,
    }
