# SPDX-License-Identifier: Apache-2.0
"""What the drift engine gives to the server: its routes and its periodic tick."""

from fleet.drift.documents import DriftDocuments
from fleet.drift.engine import DriftEngine
from fleet.drift.parameters import DriftParameters
from fleet.drift.routes import build_router
from fleet.services import Feature, PeriodicTask, Services


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
    return Feature(
        name="drift",
        routers=(build_router(services, documents),),
        tasks=(PeriodicTask("drift", services.config.drift.tick_seconds, engine.tick),),
    )
