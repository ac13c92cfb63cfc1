# SPDX-License-Identifier: Apache-2.0
"""A registry behind its real routes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.client import FleetClient
from fleet.registry import Registry, feature
from fleet.registry.builder import Builder
from fleet.registry.key_reference import read_signer
from tests.support.http_server import serve
from tests.support.registry_world import World

BOOK = TokenBook(admin="a-token", server_id="test")


@dataclass
class Served:
    """A registry, its server and its client."""

    world: World
    registry: Registry
    http: httpx.Client

    @property
    def client(self) -> FleetClient:
        return FleetClient(self.http)

    @property
    def builder(self) -> Builder:
        signer = read_signer(self.world.paths.builder_key)
        return Builder(self.client, [signer], self.world.clock.now)


@contextmanager
def serve_registry(world: World) -> Iterator[Served]:
    """Serve the registry of a world over HTTP."""
    registry = Registry(world.services)
    app = make_application([feature.build(world.services, registry)], BOOK)
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    with serve(app) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield Served(world, registry, http)
