# SPDX-License-Identifier: Apache-2.0
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from fleet.errors import StateError
from fleet.ingest.writer import Incoming
from fleet.store.counters import raise_counter, read_counter
from fleet.store.engine import database_url, open_engine, reading, writing
from fleet.store.migrate import migrate
from fleet.store.tables import metadata
from tests.support.fleet_world import FleetWorld


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(database_url(tmp_path / "fleet.sqlite"))
    migrate(engine)
    return engine


def test_the_migrations_make_the_tables_and_may_run_again(engine: Engine) -> None:
    migrate(engine)

    names = set(inspect(engine).get_table_names())
    assert names == {*metadata.tables, "alembic_version"}


def test_a_database_of_a_newer_program_is_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StateError, match="expected a known version"):
        migrate(engine)


def test_a_counter_grows_above_what_it_is_told(engine: Engine) -> None:
    with writing(engine) as connection:
        found = [raise_counter(connection, "n"), raise_counter(connection, "n")]
        found.append(raise_counter(connection, "n", above=10))

    with reading(engine) as connection:
        assert [*found, read_counter(connection, "n")] == [1, 2, 11, 11]


def test_writers_wait_for_each_other(engine: Engine) -> None:
    def count() -> None:
        for _ in range(20):
            with writing(engine) as connection:
                raise_counter(connection, "shared")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with reading(engine) as connection:
        assert read_counter(connection, "shared") == 80


def test_a_full_disk_confirms_nothing_and_loses_nothing(tmp_path: Path) -> None:
    world = FleetWorld(tmp_path)
    topic, data = world.device().window(1)
    confirmed: list[str] = []
    incoming = Incoming(topic, data, lambda: confirmed.append("done"))
    with reading(world.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        # SQLite answers as on a full disk when it may not grow.
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    refused = 0
    for seq in range(2, 400):
        full_topic, full_data = world.device().window(seq)
        try:
            world.ingest((full_topic, full_data))
        except SQLAlchemyError:
            refused += 1
            break
    with pytest.raises(SQLAlchemyError):
        world.writer.write([incoming])
    assert (refused, confirmed) == (1, [])

    with reading(world.engine) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    world.writer.write([incoming])
    assert confirmed == ["done"]
