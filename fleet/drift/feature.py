# SPDX-License-Identifier: Apache-2.0
"""What the drift engine gives to the server: its routes and its periodic tick."""

from fleet.drift.documents import DriftDocuments
from fleet.drift.engine import DriftEngine
from fleet.drift.losses import LossWatch
from fleet.drift.parameters import DriftParameters
from fleet.drift.routes import build_router
from fleet.drift.teller import VerdictTeller
from fleet.services import Bus, Feature, PeriodicTask, Services

_LOSSES_SECONDS = 60.0
_TELL_SECONDS = 1.0


def build_documents(services: Services) -> DriftDocuments:
    """Build a reader of drift documents, for the dashboard."""
    parameters = DriftParameters()
    engine = DriftEngine(services.engine, services.clock, parameters)
    return DriftDocuments(engine, parameters)


def build(services: Services, bus: Bus) -> Feature:
    """Build the feature; verdicts are told over ``bus``."""
    parameters = DriftParameters()
    engine = DriftEngine(services.engine, services.clock, parameters)
    documents = DriftDocuments(engine, parameters)
    losses = LossWatch(services.engine, services.clock)
    teller = VerdictTeller(services.engine, bus)
    return Feature(
        name="drift",
        routers=(build_router(services, documents),),
        tasks=(
            PeriodicTask("drift", services.config.drift.tick_seconds, engine.tick),
            PeriodicTask("drift-losses", _LOSSES_SECONDS, losses.tick),
            PeriodicTask("drift-topic", _TELL_SECONDS, teller.run),
        ),
    )
