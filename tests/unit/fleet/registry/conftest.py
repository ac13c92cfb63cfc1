# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest

from tests.support.registry_world import World
from tests.support.served_registry import Served, serve_registry


@pytest.fixture
def served(world: World) -> Iterator[Served]:
    with serve_registry(world) as served:
        yield served
