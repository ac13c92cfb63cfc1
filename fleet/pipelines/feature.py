# SPDX-License-Identifier: Apache-2.0
"""REST routes of pipelines.

Owns ``/pipelines`` and ``/runs``. Which programs exist is in ``fleet.yaml`` alone: a
request names a pipeline, never a command.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select

from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.errors import NotFoundError
from fleet.pipelines.runs import RunDesk, describe_run, find_run
from fleet.services import Feature, Services
from fleet.store.engine import reading, writing
from fleet.store.tables import runs

# (database, folder of samples, request, output folder)
Export = Callable[[Engine, Path, str, Path], object]
_LATEST_RUNS = 50


class NewRun(BaseModel):
    """The body of starting a run."""

    model_config = ConfigDict(extra="forbid")

    context: dict[str, str] = Field(default_factory=dict)
    samples: str = ""


def build(services: Services, export: Export) -> Feature:
    """Build the feature; ``export`` puts received samples into a folder."""
    layout = services.layout
    desk = RunDesk(
        services,
        lambda request, output: export(
            services.engine, layout.samples, request, output
        ),
    )
    router = APIRouter()

    @router.post("/pipelines/{name}/runs")
    def start_run(name: str, body: NewRun, request: Request) -> dict[str, Any]:
        config = services.config.pipelines.get(name)
        if config is None:
            known = ", ".join(services.config.pipelines) or "none"
            message = f"pipeline {name}: expected one of fleet.yaml: {known}"
            raise NotFoundError(message, next_step="add it to pipelines in fleet.yaml")
        run = desk.run(name, config, dict(body.context), body.samples)
        with writing(services.engine) as connection:
            append_audit(
                connection,
                time_us=services.clock.wall_us(),
                actor=find_request_actor(request),
                action="pipeline.run",
                subject=run,
                detail={"pipeline": name, "samples": body.samples},
            )
            return describe_run(find_run(connection, run), layout.root)

    @router.get("/runs")
    def get_runs() -> dict[str, Any]:
        query = select(runs).order_by(runs.c.started_us.desc()).limit(_LATEST_RUNS)
        with reading(services.engine) as connection:
            found = connection.execute(query).mappings().all()
        return {"runs": [describe_run(row, layout.root) for row in found]}

    @router.get("/runs/{run}")
    def get_run(run: str) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return describe_run(find_run(connection, run), layout.root)

    return Feature(
        name="pipelines", routers=(router,), start=desk.start, stop=desk.stop
    )
