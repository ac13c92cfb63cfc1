# SPDX-License-Identifier: Apache-2.0
"""What the server's repository says to this device: a rule, and a builder's entry.

Owns which roles and targets of the repository matter here, and which floors they have.
That they are genuine is ``trusted``'s matter. It downloads ``desired.json``, no bundle.
"""

from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from edge_agent.device import MODELS_ROLE, bundle_keys
from edge_agent.ota.fetch import ServerAccess
from edge_agent.ota.resolve import MAX_DESIRED_BYTES, UpdateRejectedError
from edge_agent.ota.trusted import TARGETS, TrustedRepository
from edge_contract.enrolment import Enrolment

DESIRED_FLOOR: Final = "desired"


class TufClient:
    """The verified view of one server's repository.

    Args:
        state_dir: The agent's state folder.
        enrolment: Whose root is trusted, and where the server is.
        access: How to reach it.
    """

    def __init__(
        self, state_dir: Path, enrolment: Enrolment, access: ServerAccess
    ) -> None:
        self._fleet = enrolment.fleet
        self._role = f"fleet-{enrolment.fleet}"
        self.targets_url = f"{access.base}/tuf/targets/"
        self._repository = TrustedRepository(
            state_dir / "tuf",
            enrolment.tuf_root,
            f"{access.base}/tuf/metadata/",
            self.targets_url,
            access,
        )

    def refresh(self) -> None:
        """Fetch and verify the newest metadata; see ``TrustedRepository.refresh``."""
        self._repository.refresh()

    def fetch_desired(self) -> bytes | None:
        """Return the verified bytes of this fleet's desired document, if it has one.

        Raises:
            EdgeError: As ``refresh``.
        """
        repository = self._repository
        target = repository.find_target(f"fleets/{self._fleet}/desired.json")
        if target is None:
            return None
        repository.raise_floor(self._role, repository.guard(self._role))
        return repository.read_target(target, MAX_DESIRED_BYTES)

    def find_model(self, path: str) -> TargetFile:
        """Return the builder's entry of a bundle.

        Raises:
            UpdateRejectedError: The builder does not list it.
            EdgeError: As ``refresh``.
        """
        repository = self._repository
        is_model = path.startswith("models/")
        target = repository.find_target(path) if is_model else None
        if target is None:
            raise UpdateRejectedError(
                f"{path}: expected a release that the builder lists, found none",
                next_step="publish it, or roll out one that is listed",
            )
        repository.raise_floor(MODELS_ROLE, repository.guard(MODELS_ROLE))
        return target

    def target_url(self, target: TargetFile) -> str:
        """Return where the bytes of a target are (consistent snapshot)."""
        return self._repository.target_url(target)

    def model_keys(self) -> list[bytes]:
        """Return the raw Ed25519 keys that sign the builder's bundles."""
        targets: Targets = self._repository.read(TARGETS, Targets)
        models: Targets = self._repository.read(MODELS_ROLE, Targets)
        return bundle_keys(targets, models)

    def check_desired_version(self, version: int) -> None:
        """Refuse a desired document older than one that was acted on.

        Raises:
            UpdateTrustError: It is below the floor.
        """
        seen = self._repository.guard(self._role, version)
        self._repository.check_floor(DESIRED_FLOOR, seen)

    def raise_desired_version(self, version: int) -> None:
        """Make durable that this desired document was acted on."""
        seen = self._repository.guard(self._role, version)
        self._repository.raise_floor(DESIRED_FLOOR, seen)
