# SPDX-License-Identifier: Apache-2.0
"""The server's composition root.

Owns which features there are, in what order they start, and what each is built from.
It contains no logic: a feature that is not listed here does not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from sqlalchemy import Engine

from edge_contract.errors import EdgeError
from fleet.alerts import feature as alerts_feature
from fleet.api.factory import make_application
from fleet.audit import feature as audit_feature
from fleet.auth.keyring import KeyRing
from fleet.auth.tokens import TokenBook
from fleet.broker.embedded import EmbeddedBroker
from fleet.broker.session import MqttSession
from fleet.config import FleetConfig, StateLayout
from fleet.devices import feature as devices_feature
from fleet.devices.downlink import MqttDownlink
from fleet.devices.enrol import Endpoints
from fleet.drift import feature as drift_feature
from fleet.ingest.feature import Inlet
from fleet.pipelines import feature as pipelines_feature
from fleet.registry import Registry, init_repository
from fleet.registry import feature as registry_feature
from fleet.rollout import feature as rollout_feature
from fleet.samples import feature as samples_feature
from fleet.samples.export import export_samples
from fleet.services import Clock, Feature, PeriodicTask, Services
from fleet.web import feature as web_feature

_BROKER_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is composed from.

    Args:
        config: The configuration.
        layout: The state folder.
        engine: The database, migrated.
        ring: The keys of the devices.
        clock: The time.
        endpoints: Where devices find the server.
        server_id: Names the server's MQTT client.
    """

    config: FleetConfig
    layout: StateLayout
    engine: Engine
    ring: KeyRing
    clock: Clock
    endpoints: Endpoints
    server_id: str


def compose(parts: Parts) -> list[Feature]:
    """Build all features, in the order of their start."""
    session = MqttSession(
        parts.endpoints.broker_host,
        parts.endpoints.broker_port,
        f"edge-fleet-{parts.server_id}",
    )
    downlink = MqttDownlink(parts.engine, parts.ring, parts.clock, session)
    services = Services(parts.config, parts.layout, parts.engine, parts.clock, downlink)
    inlet = Inlet(services, parts.ring, downlink.send_acks, downlink.greet)
    registry = Registry(services)
    return [
        *_broker_features(parts),
        devices_feature.build(services, parts.ring, parts.endpoints),
        samples_feature.build(services, parts.ring),
        pipelines_feature.build(services, export_samples),
        registry_feature.build(services, registry),
        rollout_feature.build(services, registry.publish_desired, registry.offers),
        drift_feature.build(services, session),
        alerts_feature.build(services, session),
        audit_feature.build(services),
        web_feature.build(services),
        inlet.feature(),
        # After ingest: stopped before it, so that nothing comes in while it ends.
        Feature(
            name="session",
            start=lambda: session.connect(inlet.take, downlink.greet_all),
            stop=session.close,
        ),
    ]


def build_application(
    features: list[Feature], book: TokenBook, on_failure: Callable[[EdgeError], None]
) -> FastAPI:
    """Build the HTTP application; ``on_failure`` gets what kept it from starting."""
    return make_application(features, book, on_failure)


def init_features(layout: StateLayout, config: FleetConfig) -> None:
    """Make what features need in a new state folder; called by ``init`` only."""
    for folder in (layout.samples, layout.runs, layout.broker):
        folder.mkdir(exist_ok=True)
    init_repository(layout.root, config.fleets)


def _broker_features(parts: Parts) -> list[Feature]:
    if parts.config.broker.mode != "embedded":
        return []
    endpoints = parts.endpoints
    broker = EmbeddedBroker(
        parts.layout.broker, endpoints.broker_host, endpoints.broker_port
    )
    check = PeriodicTask("broker", _BROKER_CHECK_SECONDS, broker.keep_running)
    return [
        Feature(name="broker", tasks=(check,), start=broker.start, stop=broker.stop)
    ]
