# SPDX-License-Identifier: Apache-2.0
"""Obtaining a bundle: by the smallest delta that fits, else whole.

Owns the order of the ways and the files below ``part/``. A delta is only a shorter way
to bytes that the builder signed: what comes out must have their length and digest, and
whatever is wrong with it, the whole bundle is fetched instead. A network that breaks
off is not wrong with it: the delta goes on from there. What a bundle is worth is judged
in ``update``.
"""

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.errors import UpdateTrustError
from edge_agent.ota.deferral import DiskFullError, Gate
from edge_agent.ota.fetch import (
    Access,
    Allowance,
    Download,
    PermanentFetchError,
    Wanted,
    check_room,
)
from edge_agent.ota.machine import Journal, UpdateState
from edge_agent.ota.slots import Slots
from edge_contract.delta import DeltaOffer, apply_delta
from edge_contract.errors import DeltaError

PARTS: Final = "part"
_BUNDLE: Final = "bundle.part"
_DELTA: Final = "delta.part"
_LOG = logging.getLogger(__name__)


def discard_parts(folder: Path) -> None:
    """Delete what was fetched of a release, or made of it."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()


@dataclass
class Obtainer:
    """Brings the bytes of one bundle to this disk.

    Args:
        folder: Where parts lie; on the disk of the store.
        targets_url: Where deltas are, ending in a slash.
        slots: Holds the releases that deltas start from.
        journal: Hears of each step before it begins.
        access: Sends the requests.
        gate: Says what the link allows.
        allow: Makes what decides how much is read; told whether of a delta.
    """

    folder: Path
    targets_url: str
    slots: Slots
    journal: Journal
    access: Access
    gate: Gate
    allow: Callable[[bool], Allowance]

    def run(self, wanted: Wanted, offer: DeltaOffer | None) -> Path:
        """Return a file with the wanted length and digest.

        Args:
            wanted: The whole bundle.
            offer: A shorter way to it that fits this device, if there is one.

        Raises:
            DeferredError: It must not be fetched now.
            UpdateError: It cannot be had now.
        """
        self.gate.check_link(is_delta=offer is not None)
        self.journal.advance(UpdateState.DOWNLOADING)
        if offer is not None:
            try:
                return self._patch(wanted, offer)
            except (DeltaError, PermanentFetchError, UpdateTrustError) as error:
                _LOG.warning("delta %s: %s; fetching the whole", offer.path, error)
                discard_parts(self.folder)
            self.gate.check_link(is_delta=False)
            if self.journal.record.state is UpdateState.PATCHING:
                self.journal.advance(UpdateState.DOWNLOADING)
        return self._fetch(wanted, self.folder / _BUNDLE, is_delta=False)

    def _patch(self, wanted: Wanted, offer: DeltaOffer) -> Path:
        url = f"{self.targets_url}{offer.path}"
        part = self.folder / _DELTA
        delta = self._fetch(Wanted(url, offer.bytes, offer.sha256), part, is_delta=True)
        self.journal.advance(UpdateState.PATCHING)
        check_room(self.folder, wanted.length)
        target = self.folder / _BUNDLE
        try:
            with delta.open("rb") as stream, target.open("wb") as out:
                with self._open_source(offer) as source:
                    found = apply_delta(stream, source, out, wanted.length)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            target.unlink()
            raise DiskFullError(f"{target}: {error.strerror}") from error
        if found != wanted.digest:
            msg = f"delta: expected sha256 {wanted.digest} to come out, found {found}"
            raise DeltaError(msg)
        return target

    def _open_source(self, offer: DeltaOffer) -> BinaryIO:
        if offer.source is None:
            return BytesIO()
        return self.slots.path(offer.source).open("rb")

    def _fetch(self, wanted: Wanted, part: Path, *, is_delta: bool) -> Path:
        download = Download(
            wanted,
            part,
            self.access,
            allowance=self.allow(is_delta),
            clock=self.gate.clock,
        )
        before = self.journal.record.downloaded_bytes
        try:
            return download.run()
        finally:
            self.journal.note(downloaded_bytes=before + download.received_bytes)
