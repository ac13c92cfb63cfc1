# SPDX-License-Identifier: Apache-2.0
"""A migrated database, and a registry on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fleet.store.engine import database_url, open_engine
from fleet.store.migrate import migrate
from tests.support.registry_world import World, make_world


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(database_url(tmp_path / "fleet.sqlite"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def world(tmp_path: Path, engine: Engine) -> World:
    return make_world(tmp_path, engine)
