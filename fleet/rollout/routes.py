# SPDX-License-Identifier: Apache-2.0
"""Rollouts over HTTP, below ``/api/v1/rollouts``.

Owns the JSON form of a rollout, which the command line and the dashboard read.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleet.auth.actor import find_request_actor
from fleet.rollout.engine import RolloutEngine
from fleet.rollout.model import DeviceOutcome, Observation, Policy, Rollout
from fleet.rollout.request import RolloutRequest, parse_phases


class CreateBody(BaseModel):
    """The body of ``POST /rollouts``."""

    model_config = ConfigDict(extra="forbid")

    model: str
    release: int | None = None
    fleet: str = "default"
    slot: str = "main"
    phases: list[str] = Field(default_factory=lambda: ["1"])
    tags: dict[str, str] = Field(default_factory=dict)
    failure_percent: int = Policy().failure_percent
    deadline_seconds: int = Policy().deadline_seconds
    soak_seconds: int = Policy().soak_seconds
    accept_insufficient_evidence: str | None = None


class ResumeBody(BaseModel):
    """The body of ``POST /rollouts/{id}/resume``."""

    model_config = ConfigDict(extra="forbid")

    accept_insufficient_evidence: str | None = None


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
        "tags": dict(rollout.tags),
        "failure_percent": rollout.policy.failure_percent,
        "deadline_seconds": rollout.policy.deadline_seconds,
        "soak_seconds": rollout.policy.soak_seconds,
        "created_us": rollout.created_us,
        "created_by": rollout.created_by,
        "phases": [
            {
                "number": number,
                "kind": phase.kind.value,
                "amount": phase.amount,
                "devices": list(phase.devices),
                "state": phase.state.value,
                "started_us": phase.started_us,
                "ended_us": phase.ended_us,
                "gate": None if phase.gate is None else dict(phase.gate),
            }
            for number, phase in enumerate(rollout.phases, 1)
        ],
    }


def make_routes(engine: RolloutEngine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["rollouts"])

    @router.get("/rollouts")
    def list_rollouts() -> dict[str, Any]:
        return {"rollouts": [rollout_to_json(one) for one in engine.list_rollouts()]}

    @router.post("/rollouts")
    def create_rollout(body: CreateBody, request: Request) -> dict[str, Any]:
        wanted = RolloutRequest(
            model=body.model,
            release=body.release,
            fleet=body.fleet,
            slot=body.slot,
            phases=parse_phases(body.phases),
            policy=Policy(
                body.failure_percent, body.deadline_seconds, body.soak_seconds
            ),
            tags=body.tags,
            accepted=body.accept_insufficient_evidence,
        )
        return rollout_to_json(engine.create(wanted, find_request_actor(request)))

    @router.get("/rollouts/{rollout}")
    def show_rollout(rollout: str) -> dict[str, Any]:
        found, observations = engine.find_rollout(rollout)
        return rollout_to_json(found) | _devices_to_json(observations)

    @router.post("/rollouts/{rollout}/pause")
    def pause_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(engine.pause(rollout, find_request_actor(request)))

    @router.post("/rollouts/{rollout}/resume")
    def resume_rollout(
        rollout: str, body: ResumeBody, request: Request
    ) -> dict[str, Any]:
        text = body.accept_insufficient_evidence
        actor = find_request_actor(request)
        return rollout_to_json(engine.resume(rollout, actor, text))

    @router.post("/rollouts/{rollout}/abort")
    def abort_rollout(rollout: str, request: Request) -> dict[str, Any]:
        return rollout_to_json(engine.abort(rollout, find_request_actor(request)))

    return router


def _devices_to_json(observations: Mapping[str, Observation]) -> dict[str, Any]:
    outcomes = Counter(one.outcome for one in observations.values())
    return {
        "outcomes": {one.value: outcomes[one] for one in DeviceOutcome},
        "devices": {
            device: {"outcome": one.outcome.value, "reason": one.reason}
            for device, one in sorted(observations.items())
        },
    }
