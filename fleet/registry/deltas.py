# SPDX-License-Identifier: Apache-2.0
"""The deltas that a server offers: which exist, where they lie, and making them.

Owns ``targets/deltas`` and ``deltas.json`` in the TUF folder. A delta is named by its
digest and needs no signature: what comes out of it must have the length and digest that
the builder signed. The index is written after the files, so that a crash costs work,
never truth. Which stretches go together is found in ``stretches``.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge_contract.canonical import sha256_hex
from edge_contract.delta import DeltaOffer
from fleet.registry.files import save_bytes
from fleet.registry.release import Release
from fleet.registry.stretches import find_delta

SOURCES: Final = 3  # the releases before, from which devices usually come
WORTH_SHARE: Final = 0.7  # of the whole: above it a delta is not worth its risk
FOLDER: Final = "deltas"
_FORMAT: Final = 1
_LOG = logging.getLogger(__name__)


class DeltaStore:
    """The deltas of one TUF folder; one thread makes, others may ask.

    Args:
        folder: The ``tuf`` folder.
    """

    def __init__(self, folder: Path) -> None:
        self._targets = folder / "targets"
        self._index_path = folder / "deltas.json"
        self._index: Mapping[str, tuple[DeltaOffer, ...]] = self._load()

    def offers(self, digest: str) -> tuple[DeltaOffer, ...]:
        """Return the deltas that lead to a release, smallest first."""
        return self._index.get(digest, ())

    def make_next(
        self, releases: Sequence[Release], files: Mapping[str, Path]
    ) -> Release | None:
        """Make the deltas of one release that has none yet.

        Args:
            releases: All that the builder lists.
            files: Target path to bundle file.

        Returns:
            The release, or None where nothing is left to do.

        Raises:
            OSError: A file cannot be read or written.
        """
        kept = {one.digest for one in releases}
        for one in reversed(releases):
            if one.digest not in self._index:
                found = self._make(one, _sources(one, releases), files)
                index = {**self._index, one.digest: found}
                self._save({k: v for k, v in index.items() if k in kept})
                return one
        if not kept >= self._index.keys():
            self._save({k: v for k, v in self._index.items() if k in kept})
        return None

    def _make(
        self,
        target: Release,
        sources: Sequence[Release | None],
        files: Mapping[str, Path],
    ) -> tuple[DeltaOffer, ...]:
        content = files[target.target_path].read_bytes()
        offers = []
        for source in sources:
            before = b"" if source is None else files[source.target_path].read_bytes()
            delta = find_delta(before, content)
            if len(delta) >= WORTH_SHARE * len(content):
                continue
            sha256, start = sha256_hex(delta), "nothing"
            if source is not None:
                start = str(source.release_counter)
            counter = target.release_counter
            path = f"{FOLDER}/{sha256}.{target.name}-{start}-{counter}.delta"
            save_bytes(self._targets / path, delta)
            digest = None if source is None else source.digest
            offers.append(DeltaOffer(digest, path, sha256, len(delta)))
        smallest = min((one.bytes for one in offers), default=0)
        _LOG.info(
            "deltas: %s: %d, the smallest %.1f %% of the whole",
            target.target_path,
            len(offers),
            100 * smallest / len(content),
        )
        return tuple(sorted(offers, key=lambda one: one.bytes))

    def _save(self, index: Mapping[str, tuple[DeltaOffer, ...]]) -> None:
        wire = {
            "format": _FORMAT,
            "offers": {k: [asdict(one) for one in v] for k, v in index.items()},
        }
        save_bytes(self._index_path, json.dumps(wire, indent=1).encode())
        self._index = index
        named = {Path(one.path).name for offers in index.values() for one in offers}
        for path in (self._targets / FOLDER).glob("*.delta"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _load(self) -> Mapping[str, tuple[DeltaOffer, ...]]:
        """Return the index; one that is missing or damaged is made anew."""
        try:
            wire: Any = json.loads(self._index_path.read_bytes())
            if wire["format"] != _FORMAT:
                return {}
            return {
                digest: tuple(DeltaOffer(**one) for one in offers)
                for digest, offers in wire["offers"].items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _LOG.warning("%s: made anew: %s", self._index_path, error)
            return {}


def _sources(target: Release, releases: Sequence[Release]) -> list[Release | None]:
    """Return the latest releases of the same model before ``target``, and nothing."""
    before = [
        one
        for one in releases
        if one.name == target.name and one.release_counter < target.release_counter
    ]
    before.sort(key=lambda one: one.release_counter)
    return [*before[-SOURCES:], None]
