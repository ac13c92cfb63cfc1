# SPDX-License-Identifier: Apache-2.0
"""Registry and rollouts behind real routes, driven by the command line's verbs."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.client import FleetClient
from fleet.commands import Answer
from fleet.config import FleetConfig, RolloutConfig
from fleet.registry import Registry, feature
from fleet.registry.builder import Builder
from fleet.registry.key_reference import read_signer
from fleet.registry.key_verbs import register as register_keys
from fleet.registry.verbs import register as register_models
from fleet.rollout.engine import RolloutEngine
from fleet.rollout.routes import make_routes
from fleet.rollout.verbs import register as register_rollouts
from fleet.services import Feature
from tests.support.fleet_devices import RecordedFleet
from tests.support.http_server import serve
from tests.support.registry_world import NoDevices, World

BOOK = TokenBook(admin="a-token", server_id="test")
DESIRED = "fleets/default/desired.json"


@dataclass
class RolloutServer:
    """Registry and rollouts behind real routes; the engine turns when told."""

    world: World
    registry: Registry
    engine: RolloutEngine
    fleet: RecordedFleet
    http: httpx.Client

    def publish(self, model: bytes) -> str:
        """Publish a bundle; return its release digest."""
        client = FleetClient(self.http)
        signer = read_signer(self.world.paths.builder_key)
        builder = Builder(client, [signer], self.world.clock.now)
        return builder.publish_bundle(self.world.bundle(model)).release.digest

    def run(self, *words: str) -> Answer:
        """Run a verb of the command line against the server."""
        parser = argparse.ArgumentParser()
        groups = parser.add_subparsers(required=True)
        register_models(groups)
        register_keys(groups)
        register_rollouts(groups)
        arguments = parser.parse_args(words)
        answer: Answer = arguments.handler(arguments, FleetClient(self.http))
        return answer

    def tick(self, seconds: float = 1) -> None:
        """Take a turn after a while."""
        self.world.clock.advance(seconds=seconds)
        self.engine.tick()

    def read_desired(self) -> dict[str, Any]:
        """Read the document as a device does."""
        content = self.world.reader().read(DESIRED)
        assert content is not None
        document: dict[str, Any] = json.loads(content)
        return document

    def read_rules(self) -> list[tuple[str, list[str] | None]]:
        """Return rollout and devices of each rule, in order."""
        slots = self.read_desired()["slots"]
        return [(rule["rollout"], rule["devices"]) for rule in slots["main"]]

    def commit(self, digest: str, *devices: str) -> None:
        """Report a whole update of each device."""
        for device in devices:
            self.fleet.report(device, "DOWNLOADING", digest)
            self.fleet.report(device, "COMMITTED", digest)

    def complete(self, release: int, *devices: str) -> str:
        """Publish a release and bring it to all devices; return its digest."""
        digest = self.publish(b"model %d" % release)
        self.run("rollout", "create", "--model", "sample", "--release", str(release),
                 "--phases", "all", "--accept-insufficient-evidence", "so")  # fmt: skip
        self.tick()
        self.commit(digest, *devices)
        self.tick()
        return digest

    @property
    def announced(self) -> list[tuple[str, int, int]]:
        """Fleet, version and spread of every announcement."""
        downlink = self.world.services.downlink
        assert isinstance(downlink, NoDevices)
        return downlink.announced


@contextmanager
def serve_rollouts(
    world: World, approve: Sequence[str] = ()
) -> Iterator[RolloutServer]:
    """Give a server on ``world`` whose policy wants two persons for ``approve``."""
    config = FleetConfig(rollout=RolloutConfig(approve=tuple(approve)))
    services = replace(world.services, config=config)
    registry = Registry(services)
    engine = RolloutEngine(services, registry.publish_desired)
    features = [
        feature.build(services, registry),
        Feature(name="rollout", routers=(make_routes(engine.desk),)),
    ]
    app = make_application(features, BOOK)
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    fleet = RecordedFleet(services.engine, world.clock)
    with serve(app) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield RolloutServer(world, registry, engine, fleet, http)
