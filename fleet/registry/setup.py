# SPDX-License-Identifier: Apache-2.0
"""Making a repository, as ``edge-fleet init`` does.

Owns ``init_repository``. It may be run again at any time: it finishes what was
interrupted and adds fleets that have no role yet. The server must not be running
meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_contract.topics import check_fleet_id
from fleet.registry import metadata
from fleet.registry.errors import CeremonyError
from fleet.registry.rotation import add_fleet, collect, propose_first
from fleet.registry.site import Site, system_now
from fleet.registry.tuf_repository import Now


@dataclass(frozen=True)
class RepositoryPaths:
    """Where ``init_repository`` put what others need.

    Attributes:
        root: The newest root document; its bytes go into every enrolment file.
        builder_key: The private key that signs bundles and the ``models`` role.
        builder_public: Its public half.
    """

    root: Path
    builder_key: Path
    builder_public: Path


def init_repository(
    state_dir: Path, fleets: Iterable[str], now: Now = system_now
) -> RepositoryPaths:
    """Make keys and repository below ``state_dir``, or complete them.

    Args:
        state_dir: The state folder of the server.
        fleets: The fleets that must have a role afterwards.
        now: The present time, with its zone.

    Raises:
        RepositoryError: What is there is damaged, a fleet must be added and the
            ``targets`` key is not on this machine, or the root lacks signatures.
        TopicError: A fleet id breaks the grammar.
    """
    site = Site(state_dir, now)
    keyring = site.keyring
    if not site.is_made:
        _make(site)
    repository = site.open()
    for fleet in fleets:
        check_fleet_id(fleet)
        if fleet not in repository.fleets:
            add_fleet(site, repository, fleet)
    key_ids = [key.keyid for key in repository.models_keys()]
    for reference in keyring.find(metadata.MODELS, key_ids):
        keyring.save_builder_public(reference)
    return RepositoryPaths(
        repository.root_path, keyring.path(metadata.MODELS), keyring.builder_public
    )


def _make(site: Site) -> None:
    if site.ceremony().proposal is None:
        roles = (*metadata.TOP_ROLES, metadata.MODELS)
        keys = {role: [site.keyring.ensure(role)] for role in roles}
        propose_first(site, keys, threshold=1)
    progress = collect(site)
    if progress.path is not None:
        needed = " and ".join(str(one.count) for one in progress.missing)
        raise CeremonyError(
            f"{progress.path}: expected all signatures, {needed} are missing",
            next_step="have it signed with `edge-fleet keys sign-root`, then run"
            " `edge-fleet keys collect`",
        )
