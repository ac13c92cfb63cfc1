# SPDX-License-Identifier: Apache-2.0
"""The registry: one object that other parts of the server ask.

Owns the life of the opened repository: opened and healed at the start, signatures
renewed while it runs. What is decided is decided in ``publication`` and ``release``.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fleet.errors import NotFoundError
from fleet.registry import catalogue, metadata, release
from fleet.registry.advice import advise, expiring
from fleet.registry.deltas import DeltaStore
from fleet.registry.errors import RepositoryError
from fleet.registry.publication import Publication
from fleet.registry.site import Site
from fleet.registry.tuf_repository import TufRepository
from fleet.services import Services
from fleet.store.engine import reading, writing
from fleet.store.signatures import list_ending_signatures, replace_ending_signatures

_LOG = logging.getLogger(__name__)


class Registry:
    """Models and trust metadata of one server.

    Args:
        services: What every feature is built from.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._site = Site(services.layout.root, self._now)
        self._repository: TufRepository | None = None
        self._publication: Publication | None = None
        self._deltas: DeltaStore | None = None

    def start(self) -> None:
        """Open and heal the repository, and renew what expired meanwhile.

        Raises:
            RepositoryError: There is none, or it is damaged.
        """
        services = self._services
        repository = self._site.open()
        publication = Publication(
            services.layout.tuf, repository, services.engine, services.clock
        )
        publication.heal()
        self._repository, self._publication = repository, publication
        self._deltas = DeltaStore(services.layout.tuf)
        self.renew()

    def renew(self) -> None:
        """Sign again what would expire soon, and note what needs a person for it."""
        try:
            renewed = self.repository.renew()
            if renewed:
                _LOG.info("registry: signed again: %s", ", ".join(renewed))
        finally:
            self._note_expiring()

    def make_deltas(self) -> None:
        """Make the deltas of releases that have none yet; may take a while.

        Raises:
            OSError: The disk refuses; the next call tries again.
        """
        if self._deltas is None:
            raise self._not_started()
        repository = self.repository
        while True:
            releases = release.list_releases(repository.models.signed)
            paths = [one.target_path for one in releases]
            files = {one: repository.target_file(one) for one in paths}
            if self._deltas.make_next(releases, files) is None:
                return

    def offers(self, digest: str) -> Sequence[Mapping[str, Any]]:
        """Return the deltas that lead to a release, smallest first, as plain values."""
        found = () if self._deltas is None else self._deltas.offers(digest)
        return [asdict(one) for one in found]

    @property
    def repository(self) -> TufRepository:
        """The opened repository."""
        if self._repository is None:
            raise self._not_started()
        return self._repository

    @property
    def publication(self) -> Publication:
        """Where releases are judged and published."""
        if self._publication is None:
            raise self._not_started()
        return self._publication

    def publish_desired(self, fleet: str, content: bytes) -> None:
        """Make ``content`` the document that ``fleet`` follows; do nothing if it is.

        Raises:
            NotFoundError: The fleet has no role.
        """
        if fleet not in self.repository.fleets:
            raise NotFoundError(
                f"fleet {fleet}: expected a role in the TUF repository, there is none",
                next_step="add it to fleets in fleet.yaml and run `edge-fleet init`",
            )
        if self.repository.desired(fleet) != content:
            self.repository.publish_desired(fleet, content)

    def models_document(self) -> bytes:
        """Return the current ``models`` document as it is signed."""
        return metadata.encode(self.repository.models)

    def list_entries(self) -> tuple[catalogue.CatalogueEntry, ...]:
        """Return the catalogue."""
        with reading(self._services.engine) as connection:
            return catalogue.list_entries(connection)

    def find_entry(self, name: str, release: int) -> catalogue.CatalogueEntry:
        """Return one release of the catalogue.

        Raises:
            NotFoundError: There is none.
        """
        with reading(self._services.engine) as connection:
            return catalogue.find_entry(connection, name, release)

    def keys_status(self) -> dict[str, Any]:
        """Return versions, expiry and places of all keys, with what to do about it."""
        roles = self._roles()
        return {"roles": roles, "advice": advise(roles, self._site.ceremony())}

    def _note_expiring(self) -> None:
        found = expiring(self._roles())
        with reading(self._services.engine) as connection:
            known = list_ending_signatures(connection)
        if known != sorted(found, key=lambda one: one["role"]):
            with writing(self._services.engine) as connection:
                replace_ending_signatures(connection, found)

    def _roles(self) -> list[dict[str, Any]]:
        keyring, now = self._site.keyring, self._now()
        return [
            {
                "role": status.role,
                "version": status.version,
                "expires": status.expires.isoformat(),
                "days_left": (status.expires - now).days,
                "key_ids": list(status.key_ids),
                "threshold": status.threshold,
                "private_key_here": bool(places := keyring.places(status.role)),
                "places": places,
            }
            for status in self.repository.status()
        ]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._services.clock.wall_us() / 1e6, UTC)

    def _not_started(self) -> RepositoryError:
        return RepositoryError(
            f"{self._services.layout.tuf}: the registry has not been started",
            next_step="start the server with `edge-fleet serve`",
        )
