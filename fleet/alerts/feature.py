# SPDX-License-Identifier: Apache-2.0
"""What alerts give to the server: routes, the engine, and a worker a channel."""

from fleet.alerts.channels.channel import Channel
from fleet.alerts.channels.mail import MailChannel
from fleet.alerts.channels.topic import TopicChannel
from fleet.alerts.channels.webhook import WebhookChannel
from fleet.alerts.delivery import DeliveryWorker
from fleet.alerts.engine import AlertEngine
from fleet.alerts.routes import build_router
from fleet.services import Bus, Feature, PeriodicTask, Services

_WORKER_SECONDS = 1.0


def build(services: Services, bus: Bus) -> Feature:
    """Build the feature; the topic goes over ``bus``."""
    config = services.config.alerts
    channels = build_channels(services, bus)
    engine = AlertEngine(
        services.engine, services.clock, config, [one.name for one in channels]
    )
    workers = [
        PeriodicTask(
            f"alerts-{one.name}",
            _WORKER_SECONDS,
            DeliveryWorker(services.engine, services.clock, one).run,
        )
        for one in channels
    ]
    return Feature(
        name="alerts",
        routers=(build_router(services),),
        tasks=(PeriodicTask("alerts", config.tick_seconds, engine.tick), *workers),
    )


def build_channels(services: Services, bus: Bus) -> list[Channel]:
    """Build the configured channels; the topic is always there."""
    config = services.config.alerts
    channels: list[Channel] = [TopicChannel(bus, services.config.fleets)]
    channels += [
        WebhookChannel(name, hook, services.clock)
        for name, hook in config.webhooks.items()
    ]
    if config.email.host:
        channels.append(MailChannel(config.email))
    return channels
