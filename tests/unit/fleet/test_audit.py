# SPDX-License-Identifier: Apache-2.0
"""The audit log: nobody changes it unseen, and the database helps."""

import argparse
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateTable

from fleet.api.factory import make_application
from fleet.audit import feature
from fleet.audit.log import append_audit, verify_audit
from fleet.audit.verbs import register
from fleet.auth.tokens import TokenBook
from fleet.client import FleetClient
from fleet.commands import Answer
from fleet.errors import RemoteError, StateError
from fleet.store.engine import reading, writing
from fleet.store.tables import audit
from tests.support.http_server import serve
from tests.support.registry_world import World

BOOK = TokenBook(admin="a-token", server_id="test")


def append(engine: Engine, *subjects: str) -> None:
    for number, subject in enumerate(subjects):
        with writing(engine) as connection:
            append_audit(
                connection,
                time_us=1_800_000_000_000_000 + number,
                actor="user:ada",
                action="rollout.start",
                subject=subject,
                detail={"state": "running", "bound": "0.0123"},
            )


@pytest.fixture
def client(world: World) -> Iterator[FleetClient]:
    app = make_application([feature.build(world.services)], BOOK)
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    with serve(app) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield FleetClient(http)


def run(client: FleetClient, *words: str) -> Answer:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    answer: Answer = arguments.handler(arguments, client)
    return answer


@pytest.mark.parametrize(
    "statement",
    [update(audit).values(actor="somebody else"), delete(audit)],
    ids=["update", "delete"],
)
def test_the_database_refuses_to_change_an_entry(
    engine: Engine, statement: object
) -> None:
    append(engine, "r1", "r2")

    with (
        pytest.raises(DatabaseError, match="audit is append-only"),
        writing(engine) as connection,
    ):
        connection.execute(statement)  # type: ignore[call-overload]

    with reading(engine) as connection:
        assert verify_audit(connection).entries == 2


def test_who_gets_around_the_triggers_is_seen(engine: Engine, tmp_path: Path) -> None:
    append(engine, "r1", "r2", "r3")
    with reading(engine) as connection:
        head = verify_audit(connection).head
    raw = sqlite3.connect(tmp_path / "fleet.sqlite")
    raw.execute("DROP TRIGGER audit_no_update")
    raw.execute("DROP TRIGGER audit_no_delete")
    raw.execute("DELETE FROM audit WHERE id = 3")
    raw.commit()

    with reading(engine) as connection:
        assert verify_audit(connection).entries == 2  # a shorter chain is a chain
        with pytest.raises(StateError, match="expected the head"):
            verify_audit(connection, head)

    raw.execute("UPDATE audit SET actor = 'nobody' WHERE id = 1")
    raw.commit()
    raw.close()

    with (
        reading(engine) as connection,
        pytest.raises(StateError, match="entry 1 does not continue"),
    ):
        verify_audit(connection)


def test_postgresql_gets_its_triggers_as_well() -> None:
    said: list[str] = []

    class Recorder:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

        def execute(self, statement: object) -> None:
            said.append(str(statement))

    for listener in audit.dispatch.after_create:
        listener(audit, Recorder())

    assert len(said) == 2
    assert "BEFORE UPDATE OR DELETE OR TRUNCATE ON audit" in said[1]
    assert "audit" in str(CreateTable(audit))


def test_entries_are_listed_and_the_chain_is_verified(
    client: FleetClient, world: World
) -> None:
    append(world.services.engine, "r1", "r2", "r1")

    listed = run(client, "audit", "list", "--subject", "r1")
    older = run(client, "audit", "list", "--before", "2")
    checked = run(client, "audit", "verify")
    again = run(client, "audit", "verify", "--head", checked.document["head"])

    assert [one["id"] for one in listed.document["entries"]] == [3, 1]
    assert [one["id"] for one in older.document["entries"]] == [1]
    assert "user:ada" in listed.text
    assert "2027-01-15T08:00:00+00:00" in listed.text
    assert checked.document["entries"] == again.document["entries"] == 3
    with reading(world.services.engine) as connection:
        last = connection.execute(select(audit.c.digest).order_by(audit.c.id.desc()))
        assert checked.document["head"] == last.scalars().first().hex()  # type: ignore[union-attr]
    with pytest.raises(RemoteError, match="expected the head"):
        run(client, "audit", "verify", "--head", "ab" * 32)
