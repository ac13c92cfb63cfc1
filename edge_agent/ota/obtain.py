# SPDX-License-Identifier: Apache-2.0
"""Obtaining a bundle: by the smallest delta that fits, else whole.

Owns the order of the ways and the files below ``part/``. A delta is only a shorter way
to bytes that the builder signed: what comes out must have their length and digest, and
whatever is wrong with it, the whole bundle is fetched instead. What a bundle is worth
is judged in ``update``.
"""

import logging
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.errors import UpdateError
from edge_agent.ota.fetch import Access, Download, Wanted
from edge_agent.ota.machine import Journal, UpdateState
from edge_agent.ota.slots import Slots
from edge_contract.delta import DeltaOffer, apply_delta
from edge_contract.errors import DeltaError

_BUNDLE: Final = "bundle.part"
_DELTA: Final = "delta.part"
_LOG = logging.getLogger(__name__)


@dataclass
class Obtainer:
    """Brings the bytes of one bundle to this disk.

    Args:
        folder: Where parts lie; on the disk of the store.
        targets_url: Where deltas are, ending in a slash.
        slots: Holds the releases that deltas start from.
        journal: Hears of each step before it begins.
        access: Sends the requests.
    """

    folder: Path
    targets_url: str
    slots: Slots
    journal: Journal
    access: Access

    def run(self, wanted: Wanted, offer: DeltaOffer | None) -> Path:
        """Return a file with the wanted length and digest.

        Args:
            wanted: The whole bundle.
            offer: A shorter way to it that fits this device, if there is one.

        Raises:
            UpdateError: It cannot be had now.
        """
        self.journal.advance(UpdateState.DOWNLOADING)
        if offer is not None:
            try:
                return self._patch(wanted, offer)
            except (DeltaError, UpdateError) as error:
                _LOG.warning("delta %s: %s; fetching the whole", offer.path, error)
                self.discard()
            if self.journal.record.state is UpdateState.PATCHING:
                self.journal.advance(UpdateState.DOWNLOADING)
        return self._fetch(wanted, self.folder / _BUNDLE)

    def discard(self) -> None:
        """Delete all parts."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                path.unlink()

    def _patch(self, wanted: Wanted, offer: DeltaOffer) -> Path:
        url = f"{self.targets_url}{offer.path}"
        delta = self._fetch(
            Wanted(url, offer.bytes, offer.sha256), self.folder / _DELTA
        )
        self.journal.advance(UpdateState.PATCHING)
        target = self.folder / _BUNDLE
        with delta.open("rb") as stream, target.open("wb") as out:
            with self._open_source(offer) as source:
                found = apply_delta(stream, source, out, wanted.length)
            out.flush()
            os.fsync(out.fileno())
        if found != wanted.digest:
            msg = f"delta: expected sha256 {wanted.digest} to come out, found {found}"
            raise DeltaError(msg)
        return target

    def _open_source(self, offer: DeltaOffer) -> BinaryIO:
        if offer.source is None:
            return BytesIO()
        return self.slots.path(offer.source).open("rb")

    def _fetch(self, wanted: Wanted, part: Path) -> Path:
        download = Download(wanted, part, self.access)
        before = self.journal.record.downloaded_bytes
        try:
            return download.run()
        finally:
            self.journal.note(downloaded_bytes=before + download.received_bytes)
