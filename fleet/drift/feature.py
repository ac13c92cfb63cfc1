# SPDX-License-Identifier: Apache-2.0
"""What the drift engine gives to the server: its routes and its periodic tick."""

from typing import Any

from fastapi import APIRouter

from fleet.drift.documents import DriftDocuments
from fleet.drift.engine import DriftEngine
from fleet.drift.parameters import DriftParameters
from fleet.services import Feature, PeriodicTask, Services
from fleet.store.engine import reading


def build_documents(services: Services) -> DriftDocuments:
    """Build a reader of drift documents, for the dashboard."""
    parameters = DriftParameters()
    engine = DriftEngine(services.engine, services.clock, parameters)
    return DriftDocuments(engine, parameters)


def build(services: Services) -> Feature:
    """Build the feature."""
    parameters = DriftParameters()
    engine = DriftEngine(services.engine, services.clock, parameters)
    documents = DriftDocuments(engine, parameters)
    router = APIRouter()

    @router.get("/drift")
    def get_drift(fleet: str | None = None) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return documents.read_fleet(connection, fleet)

    @router.get("/drift/{device}")
    def get_device_drift(device: str) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return documents.read_device(connection, device)

    return Feature(
        name="drift",
        routers=(router,),
        tasks=(PeriodicTask("drift", services.config.drift.tick_seconds, engine.tick),),
    )
