# SPDX-License-Identifier: Apache-2.0
"""What rollouts give to the server: routes and the engine's turn."""

from fleet.rollout.engine import PublishDesired, RolloutEngine
from fleet.rollout.routes import make_routes
from fleet.services import Feature, PeriodicTask, Services


def build(services: Services, publish_desired: PublishDesired) -> Feature:
    """Return the feature; ``publish_desired`` is the registry's."""
    engine = RolloutEngine(services, publish_desired)
    seconds = services.config.rollout.tick_seconds
    return Feature(
        name="rollout",
        routers=(make_routes(engine),),
        tasks=(PeriodicTask("rollout-engine", seconds, engine.tick),),
    )
