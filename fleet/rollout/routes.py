# SPDX-License-Identifier: Apache-2.0
"""Rollouts over HTTP, below ``/api/v1/rollouts``.

Owns the JSON form of a rollout, which the command line and the dashboard read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleet.auth.actor import find_request_actor
from fleet.rollout.desk import RolloutDesk
from fleet.rollout.model import (
    DeviceOutcome,
    Observation,
    Phase,
    Policy,
    Rollout,
    RolloutState,
)
from fleet.rollout.request import RolloutRequest, parse_phases

_NAMED = 1000  # of each phase in a preview


class CreateBody(BaseModel):
    """The body of ``POST /rollouts``."""

    model_config = ConfigDict(extra="forbid")

    model: str
    release: int | None = None
    fleet: str = "default"
    slot: str = "main"
    phases: list[str] = Field(default_factory=lambda: ["1"])
    where: str = ""
    draft: bool = False
    failure_percent: int = Policy().failure_percent
    deadline_seconds: int = Policy().deadline_seconds
    soak_seconds: int = Policy().soak_seconds
    sample: int = Policy().sample
    on_halt: str = Policy().on_halt
    confidence_points: int = Policy().confidence_points
    latency_percent: int = Policy().latency_percent
    drift_points: int = Policy().drift_points
    device_policy: dict[str, Any] = Field(default_factory=dict)
    accept_insufficient_evidence: str | None = None

    def to_request(self) -> RolloutRequest:
        """Return what is asked for, its phases parsed."""
        return RolloutRequest(
            model=self.model,
            release=self.release,
            fleet=self.fleet,
            slot=self.slot,
            phases=parse_phases(self.phases),
            policy=Policy(
                failure_percent=self.failure_percent,
                deadline_seconds=self.deadline_seconds,
                soak_seconds=self.soak_seconds,
                sample=self.sample,
                on_halt=self.on_halt,
                confidence_points=self.confidence_points,
                latency_percent=self.latency_percent,
                drift_points=self.drift_points,
                device=self.device_policy,
            ),
            where=self.where,
            accepted=self.accept_insufficient_evidence,
            is_draft=self.draft,
        )


class ResumeBody(BaseModel):
    """The body of ``POST /rollouts/{id}/resume``."""

    model_config = ConfigDict(extra="forbid")

    accept_insufficient_evidence: str | None = None


class PromoteBody(BaseModel):
    """The body of ``POST /rollouts/{id}/promote``."""

    model_config = ConfigDict(extra="forbid")

    reason: str


def rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout as plain values."""
    return {
        "id": rollout.id,
        "fleet": rollout.fleet,
        "slot": rollout.slot,
        "model": rollout.model,
        "release": rollout.release_counter,
        "digest": rollout.digest,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "accepted_insufficient_evidence": rollout.accepted,
        "where": rollout.where,
        "policy": asdict(rollout.policy),
        "pending": None if rollout.pending is None else asdict(rollout.pending),
        "created_us": rollout.created_us,
        "created_by": rollout.created_by,
        "started_us": rollout.started_us,
        "phases": [
            _phase_to_json(number, phase)
            for number, phase in enumerate(rollout.phases, 1)
        ],
    }


def make_routes(desk: RolloutDesk) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["rollouts"])

    @router.get("/rollouts")
    def list_rollouts() -> dict[str, Any]:
        return {"rollouts": [rollout_to_json(one) for one in desk.list_rollouts()]}

    @router.post("/rollouts")
    def create_rollout(body: CreateBody, request: Request) -> dict[str, Any]:
        made = desk.create(body.to_request(), find_request_actor(request))
        return rollout_to_json(made)

    @router.post("/rollouts/preview")
    def preview_rollout(body: CreateBody) -> dict[str, Any]:
        rollout, added = desk.preview(body.to_request())
        return rollout_to_json(rollout) | _plan_to_json(added)

    @router.get("/rollouts/boxed")
    def list_boxed() -> dict[str, Any]:
        return {"boxed": [asdict(one) for one in desk.list_boxed()]}

    @router.post("/rollouts/boxed/{device}/release")
    def release_device(device: str, request: Request) -> dict[str, Any]:
        count = desk.release_device(device, find_request_actor(request))
        return {"device": device, "releases": count}

    @router.get("/rollouts/{rollout}")
    def show_rollout(rollout: str) -> dict[str, Any]:
        found, observations = desk.find_rollout(rollout)
        document = rollout_to_json(found) | _devices_to_json(observations)
        document["serving"] = desk.count_serving(found)
        if found.state is RolloutState.DRAFT:
            document |= _plan_to_json(desk.plan(found))
        return document

    _add_verbs(router, desk)
    return router


def _add_verbs(router: APIRouter, desk: RolloutDesk) -> None:
    @router.post("/rollouts/{rollout}/resume")
    def resume_rollout(
        rollout: str, body: ResumeBody, request: Request
    ) -> dict[str, Any]:
        text = body.accept_insufficient_evidence
        actor = find_request_actor(request)
        return rollout_to_json(desk.resume(rollout, actor, text))

    @router.post("/rollouts/{rollout}/promote")
    def promote_rollout(
        rollout: str, body: PromoteBody, request: Request
    ) -> dict[str, Any]:
        actor = find_request_actor(request)
        return rollout_to_json(desk.promote(rollout, actor, body.reason))

    @router.post("/rollouts/{rollout}/start")
    def start_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(desk.start(rollout, find_request_actor(request)))

    @router.post("/rollouts/{rollout}/pause")
    def pause_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(desk.pause(rollout, find_request_actor(request)))

    @router.post("/rollouts/{rollout}/abort")
    def abort_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(desk.abort(rollout, find_request_actor(request)))

    @router.post("/rollouts/{rollout}/roll-back")
    def roll_back_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(desk.roll_back(rollout, find_request_actor(request)))

    @router.post("/rollouts/{rollout}/approve")
    def approve_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(desk.approve(rollout, find_request_actor(request)))


def _phase_to_json(number: int, phase: Phase) -> dict[str, Any]:
    return {
        "number": number,
        **asdict(phase),
        "kind": phase.kind.value,
        "state": phase.state.value,
        "devices": list(phase.devices),
    }


def _plan_to_json(added: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    return {
        "plan": [
            {"number": number, "adds": len(names), "devices": list(names[:_NAMED])}
            for number, names in enumerate(added, 1)
        ]
    }


def _devices_to_json(observations: Mapping[str, Observation]) -> dict[str, Any]:
    outcomes = Counter(one.outcome for one in observations.values())
    return {
        "outcomes": {one.value: outcomes[one] for one in DeviceOutcome},
        "devices": {
            device: {
                "outcome": one.outcome.value,
                "reason": one.reason,
                "invariant": one.invariant,
                "failures": one.failures,
            }
            for device, one in sorted(observations.items())
        },
    }
