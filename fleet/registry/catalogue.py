# SPDX-License-Identifier: Apache-2.0
"""The catalogue: the table of releases that the API and the rollouts read.

Owns the queries on ``models``. The catalogue repeats what
the signed ``models`` document says; where they differ the document is right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from edge_contract.bundle import Bundle
from edge_contract.canonical import decode_json
from edge_contract.manifest import MAX_MANIFEST_BYTES
from fleet.audit.log import append_audit
from fleet.errors import NotFoundError
from fleet.registry.release import Change, Release
from fleet.store.profiles import insert_profile
from fleet.store.tables import models


@dataclass(frozen=True)
class CatalogueEntry:
    """One release as the catalogue has it.

    Attributes:
        name: The model's name.
        release_counter: Its number.
        digest: The release digest.
        target_path: Its name in the TUF repository.
        size_bytes: Length of the bundle file.
        ref_id: Of its reference profile.
        manifest: The manifest as plain values.
        published_us: When the server published it.
        withdrawn_us: When the builder took it back, if so.
    """

    name: str
    release_counter: int
    digest: str
    target_path: str
    size_bytes: int
    ref_id: bytes
    manifest: dict[str, Any]
    published_us: int
    withdrawn_us: int | None

    def to_json(self) -> dict[str, Any]:
        """Return what the API answers, without the manifest."""
        return {
            "name": self.name,
            "release": self.release_counter,
            "digest": self.digest,
            "target": self.target_path,
            "bytes": self.size_bytes,
            "ref_id": self.ref_id.hex(),
            "published_us": self.published_us,
            "withdrawn_us": self.withdrawn_us,
        }


def add(connection: Connection, one: Release, bundle: Bundle, time_us: int) -> None:
    """Enter a published release and its reference profile."""
    connection.execute(
        insert(models).values(
            name=one.name,
            release_counter=one.release_counter,
            digest=one.digest,
            target_path=one.target_path,
            bytes=one.bytes,
            ref_id=bytes.fromhex(one.ref_id),
            manifest=decode_json(bundle.manifest_bytes, max_bytes=MAX_MANIFEST_BYTES),
            published_us=time_us,
        )
    )
    insert_profile(connection, bundle.profile, digest=one.digest, now_us=time_us)


def withdraw(connection: Connection, paths: Iterable[str], time_us: int) -> None:
    """Mark releases as taken back by the builder."""
    connection.execute(
        update(models)
        .where(models.c.target_path.in_(sorted(paths)), models.c.withdrawn_us.is_(None))
        .values(withdrawn_us=time_us)
    )


def audit_change(
    connection: Connection, change: Change, actor: str, time_us: int
) -> None:
    """Write a publication into the audit log."""
    actions = [("model.publish", one) for one in change.added]
    actions += [("model.withdraw", one) for one in change.withdrawn]
    for action, one in actions:
        append_audit(
            connection,
            time_us=time_us,
            actor=actor,
            action=action,
            subject=one.target_path,
            detail={"digest": one.digest},
        )


def listed_paths(connection: Connection) -> set[str]:
    """Return the target paths of all releases that are not withdrawn."""
    query = select(models.c.target_path).where(models.c.withdrawn_us.is_(None))
    return set(connection.execute(query).scalars())


def list_entries(connection: Connection) -> tuple[CatalogueEntry, ...]:
    """Return all releases, withdrawn ones too, by name and newest first."""
    query = select(models).order_by(models.c.name, models.c.release_counter.desc())
    return tuple(_entry(row) for row in connection.execute(query).mappings())


def find_entry(connection: Connection, name: str, release: int) -> CatalogueEntry:
    """Return release ``release`` of model ``name``.

    Raises:
        NotFoundError: There is none.
    """
    query = select(models).where(
        models.c.name == name, models.c.release_counter == release
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(
            f"model {name}: no release {release}",
            next_step="`edge-fleet model list` shows what was published",
        )
    return _entry(row)


def _entry(row: RowMapping) -> CatalogueEntry:
    return CatalogueEntry(
        name=row["name"],
        release_counter=row["release_counter"],
        digest=row["digest"],
        target_path=row["target_path"],
        size_bytes=row["bytes"],
        ref_id=row["ref_id"],
        manifest=row["manifest"],
        published_us=row["published_us"],
        withdrawn_us=row["withdrawn_us"],
    )
