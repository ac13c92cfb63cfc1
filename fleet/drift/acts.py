# SPDX-License-Identifier: Apache-2.0
"""REST routes by which people have devices do something about drift.

Owns ``/drift/{device}/labels`` and ``/drift/{device}/quarantine``: a command each, in
the audit log. The device's owner has the last word; its reply says so.
"""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.services import Services
from fleet.store.engine import writing

_VALID_SECONDS = 24 * 3600


class LabelsRequest(BaseModel):
    """The body of asking for labels; arguments as in docs/spec/messages.md."""

    model_config = ConfigDict(extra="forbid")

    slot: str = Field(default="", max_length=64)
    select: Literal["near-threshold", "novelty", "random"] = "near-threshold"
    frames: int = Field(default=100, gt=0, le=256)
    seconds: int = Field(default=24 * 3600, gt=0, le=24 * 3600)
    reason: str = Field(min_length=1, max_length=200)


class QuarantineRequest(BaseModel):
    """The body of putting a slot into quarantine, or out of it."""

    model_config = ConfigDict(extra="forbid")

    slot: str = Field(default="", max_length=64)
    on: bool = True
    reason: str = Field(min_length=1, max_length=200)


def add_act_routes(router: APIRouter, services: Services) -> None:
    """Add the routes."""

    @router.post("/drift/{device}/labels")
    def post_labels(
        device: str, body: LabelsRequest, request: Request
    ) -> dict[str, Any]:
        arguments = _arguments(body)
        actor = find_request_actor(request)
        return _send(services, actor, device, "feedback-request", arguments)

    @router.post("/drift/{device}/quarantine")
    def post_quarantine(
        device: str, body: QuarantineRequest, request: Request
    ) -> dict[str, Any]:
        arguments = _arguments(body)
        actor = find_request_actor(request)
        return _send(services, actor, device, "quarantine", arguments)


def _arguments(body: BaseModel) -> dict[str, Any]:
    """Return what the device gets; without a slot it takes its first."""
    return {name: value for name, value in body.model_dump().items() if value != ""}


def _send(
    services: Services, actor: str, device: str, kind: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    command = services.downlink.send_command(
        device, kind, arguments, valid_seconds=_VALID_SECONDS
    )
    with writing(services.engine) as connection:
        append_audit(
            connection,
            time_us=services.clock.wall_us(),
            actor=actor,
            action=f"drift.{kind}",
            subject=device,
            detail={"command": command, **arguments},
        )
    return {"device": device, "command": command, "kind": kind, "arguments": arguments}
