# SPDX-License-Identifier: Apache-2.0
"""The floor: the highest metadata versions ever accepted, durable on its own.

Owns ``tuf/floor``. python-tuf compares with its cache, but the cache is not
synced: one that is lost or cut short would accept an old repository again. A version
below its floor is refused, whatever the cache says.

A role's floor starts anew when its keys were replaced under a newer root (TUF 1.0,
5.3.11): else whoever once stole a key and signed an enormous version would have locked
the device out for ever. The root's own floor never does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge_agent.errors import StateError, UpdateTrustError
from edge_agent.store import write_atomic

ROOT: Final = "root"
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """One role as it is trusted now.

    Attributes:
        version: Of its document.
        keys: Names the keys that may sign it, and those of its snapshot.
        root: Version of the root under which that holds.
    """

    version: int
    keys: str
    root: int


class Floor:
    """What was ever accepted, on disk.

    Args:
        path: The file; made when something is accepted.

    Raises:
        StateError: The file is not ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Seen] = {}
        if path.exists():
            try:
                self._seen = _decode(path.read_bytes())
            except (ValueError, AttributeError, TypeError, KeyError) as error:
                raise StateError(
                    f"{path}: malformed: {error}",
                    next_step="delete it if you trust the server right now",
                ) from error

    def check(self, found: Mapping[str, Seen]) -> None:
        """Refuse versions below the floor.

        Raises:
            UpdateTrustError: One is.
        """
        for role, one in found.items():
            floor = self._seen.get(role)
            if floor is None or _is_renewed(role, floor, one):
                continue
            if one.version < floor.version:
                raise UpdateTrustError(
                    f"metadata of {role}: expected version {floor.version} or newer, "
                    f"found {one.version}",
                    next_step="somebody offers an old repository; check the server",
                )

    def check_and_raise(self, found: Mapping[str, Seen]) -> None:
        """Refuse versions below the floor, else make them the floor.

        Raises:
            UpdateTrustError: One is.
        """
        self.check(found)
        if any(self._seen.get(role) != one for role, one in found.items()):
            self._seen |= found
            roles = {role: asdict(one) for role, one in self._seen.items()}
            wire = {"format": _FORMAT, "roles": roles}
            write_atomic(self._path, json.dumps(wire, indent=1).encode())


def _is_renewed(role: str, floor: Seen, found: Seen) -> bool:
    return role != ROOT and found.root > floor.root and found.keys != floor.keys


def _decode(data: bytes) -> dict[str, Seen]:
    wire = json.loads(data)
    if wire["format"] != _FORMAT:
        msg = f"expected format {_FORMAT}, found {wire['format']!r}"
        raise ValueError(msg)
    return {
        str(role): Seen(int(one["version"]), str(one["keys"]), int(one["root"]))
        for role, one in wire["roles"].items()
    }
