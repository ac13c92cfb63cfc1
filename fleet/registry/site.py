# SPDX-License-Identifier: Apache-2.0
"""Where keys and repository of one state folder lie.

Owns the names below the state folder and the opening of what is there. It changes
nothing; see ``rotation`` and ``setup`` for what does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.metadata import Root

from fleet.registry.ceremony import Ceremony, read_root
from fleet.registry.errors import RepositoryError
from fleet.registry.keyring import Keyring
from fleet.registry.tuf_repository import Now, TufRepository


def system_now() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Site:
    """Keys and repository of one server.

    Attributes:
        state_dir: Its state folder.
        now: The present time, with its zone.
    """

    state_dir: Path
    now: Now = system_now

    @property
    def folder(self) -> Path:
        """The TUF folder."""
        return self.state_dir / "tuf"

    @property
    def keyring(self) -> Keyring:
        """The keys at hand."""
        return Keyring(self.state_dir / "keys")

    @property
    def is_made(self) -> bool:
        """Whether there is a repository: its first timestamp makes it one."""
        return (self.folder / "metadata" / "timestamp.json").exists()

    def open(self, coming: Root | None = None) -> TufRepository:
        """Open the repository for publishing with the keys at hand.

        Args:
            coming: A root about to be adopted.

        Raises:
            RepositoryError: There is none yet, or it is damaged.
        """
        return TufRepository(self.folder, self.keyring.signers, self.now, coming=coming)

    def find_root(self) -> Path:
        """Return the file of the newest root: what a new device starts to trust.

        Raises:
            RepositoryError: There is none.
        """
        folder = self.folder / "metadata"
        found = {
            int(path.name.partition(".")[0]): path
            for path in folder.glob("*.root.json")
        }
        if not found:
            raise RepositoryError(
                f"{folder}: expected a root document, found none",
                next_step="run `edge-fleet init` for this state folder",
            )
        return found[max(found)]

    def ceremony(self) -> Ceremony:
        """Return the root that is being agreed on, if there is one.

        Raises:
            CeremonyError: It is damaged.
        """
        current = read_root(self.find_root()).signed if self.is_made else None
        return Ceremony(self.folder, current)
