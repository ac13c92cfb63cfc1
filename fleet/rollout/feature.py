# SPDX-License-Identifier: Apache-2.0
"""What rollouts give to the server: routes and the engine's turn."""

from fleet.rollout.desired import Offers
from fleet.rollout.engine import PublishDesired, RolloutEngine
from fleet.rollout.routes import make_routes
from fleet.services import Feature, PeriodicTask, Services


def build(
    services: Services, publish_desired: PublishDesired, offers: Offers
) -> Feature:
    """Return the feature; what publishes and offers is the registry."""
    engine = RolloutEngine(services, publish_desired, offers)
    seconds = services.config.rollout.tick_seconds
    return Feature(
        name="rollout",
        routers=(make_routes(engine.desk),),
        tasks=(PeriodicTask("rollout-engine", seconds, engine.tick),),
    )
