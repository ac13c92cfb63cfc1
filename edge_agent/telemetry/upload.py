# SPDX-License-Identifier: Apache-2.0
"""Uploading samples that the server asked for: ``edge-agent upload``.

Owns chunks, budget and order of sending. It runs in a short-lived subprocess, after the
daemon has checked consent, with rows that a source gave. A chunk is sealed for exactly
its URL path, takes at most 1 MiB with its envelope, and is charged to the day's budget,
on disk, before it is sent. Sent again it is the same bytes: the server keeps it once.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.access import HttpAccess
from edge_agent.clock import Clock
from edge_agent.errors import UploadError
from edge_agent.store import write_atomic
from edge_contract.canonical import encode_cbor
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import OVERHEAD_BYTES, seal

MAX_CHUNK_BYTES: Final = 1024 * 1024
MAX_ATTEMPTS: Final = 6
BUDGET_FILE: Final = "upload.json"
_DAY_US: Final = 86_400_000_000
_REQUEST = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FRAME_BYTES = 4096  # head, names and a few runs
_RUN_BYTES = 16
_RETRYABLE = frozenset({408, 425, 429})
_BAD_REQUEST = 400
_SERVER_ERRORS = 500


class BudgetError(UploadError):
    """The day's byte budget does not allow it."""

    code = "agent.upload.budget"


class UploadRefusedError(UploadError):
    """The server does not take the samples."""

    code = "agent.upload.refused"


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows in the order in which they were measured.

    Attributes:
        x: float32 [n, C].
        recording: The recording of each row, n names.
        y: int32 [n] labels, or None.
        names: A name a channel, or none.
    """

    x: NDArray[np.float32]
    recording: tuple[str, ...]
    y: NDArray[np.int32] | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], *, labels: bool
    ) -> "Samples":
        """Take what a source's ``read_head`` returned, without labels unless asked."""
        y = arrays.get("y") if labels else None
        return cls(
            np.ascontiguousarray(arrays["x"], dtype="<f4"),
            tuple(str(one) for one in arrays["recording"]),
            None if y is None else np.asarray(y, dtype="<i4"),
        )


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What was sent: in this run, and the size of the whole request."""

    request: str
    chunks: int
    rows: int
    sent_bytes: int


@dataclass
class Upload:
    """Answers one request for samples.

    Args:
        state_dir: The agent's state folder.
        budget_bytes: What may be sent a day, over all requests.
        enrolment: Who we are.
        clock: Tells the day.
        access: Sends the requests; made from the enrolment by default.
        sleep: Waits between attempts.
        random: Source of jitter.
    """

    state_dir: Path
    budget_bytes: int
    enrolment: Enrolment
    clock: Clock
    access: HttpAccess | None = None
    sleep: Callable[[float], None] = time.sleep
    random: Random = field(default_factory=SystemRandom)

    def run(self, request: str, samples: Samples) -> UploadResult:
        """Send all chunks that an earlier run has not sent.

        Raises:
            BudgetError: The rest does not fit into today's budget; nothing was sent.
            UploadRefusedError: The server refused.
            UploadError: The server cannot be reached.
        """
        if not _REQUEST.fullmatch(request):
            raise UploadError(f"sample request: expected an id, found {request[:80]!r}")
        access = self.access or HttpAccess.of(self.enrolment)
        keys = self.enrolment.keys
        folder = f"/api/v1/devices/{self.enrolment.device}/samples/{request}"
        bodies = [
            seal(one, key=keys.up, epoch=keys.epoch, aad=f"{folder}/{number}")
            for number, one in enumerate(encode_chunks(samples))
        ]
        ledger = Ledger(self.state_dir / BUDGET_FILE, self.clock)
        due = [n for n in range(len(bodies)) if n not in ledger.sent(request)]
        total = sum(len(bodies[number]) for number in due)
        if total > self.budget_bytes - ledger.spent:
            raise BudgetError(
                f"samples: expected at most {self.budget_bytes} bytes a day, found "
                f"{ledger.spent} spent and {total} to send",
                next_step="ask for less, wait for tomorrow, or raise samples.budget",
            )
        sent_bytes = 0
        for number in due:
            sent_bytes += self._send(
                access, ledger, f"{folder}/{number}", bodies[number]
            )
            ledger.note_sent(request, number)
        return UploadResult(request, len(bodies), len(samples.x), sent_bytes)

    def _send(
        self, access: HttpAccess, ledger: "Ledger", path: str, body: bytes
    ) -> int:
        import urllib3

        found = ""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                self.sleep(self.random.uniform(0.0, min(30.0, 2.0**attempt)))
            if ledger.spent + len(body) > self.budget_bytes:
                break
            ledger.charge(len(body))
            try:
                response = access.request("PUT", f"{access.base}{path}", body=body)
                status, text = response.status, response.read(512)
                response.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                found = str(error)
                continue
            if status < _BAD_REQUEST:
                return len(body) * (attempt + 1)
            found = f"status {status}: {text.decode('utf-8', 'replace')}"
            if status not in _RETRYABLE and status < _SERVER_ERRORS:
                raise UploadRefusedError(
                    f"{path}: expected the server to take the samples, found {found}",
                    next_step="look at the request with `edge-fleet sample list`",
                )
        raise UploadError(
            f"{path}: expected the server to answer, found {found or 'no budget left'}",
            next_step="the server asks again; what was sent is not sent twice",
        )


class Ledger:
    """What was sent today, on disk.

    A damaged file counts as a day whose budget is unspent but for what follows: the
    budget protects a bill, not a secret.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._day = clock.wall_us() // _DAY_US
        self._spent = 0
        self._sent: dict[str, list[int]] = {}
        try:
            wire = json.loads(path.read_bytes())
            self._sent = {str(k): [int(n) for n in v] for k, v in wire["sent"].items()}
            if wire["day"] == self._day:
                self._spent = int(wire["spent"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return

    @property
    def spent(self) -> int:
        """Bytes charged today."""
        return self._spent

    def sent(self, request: str) -> frozenset[int]:
        """Return the chunks of a request that the server has."""
        return frozenset(self._sent.get(request, ()))

    def charge(self, size: int) -> None:
        """Spend ``size`` bytes; durable when this returns."""
        self._spent += size
        self._save()

    def note_sent(self, request: str, number: int) -> None:
        """Remember that the server has a chunk; of the last 16 requests only."""
        numbers = self._sent.pop(request, [])
        self._sent[request] = [*numbers, number]
        for old in list(self._sent)[:-16]:
            del self._sent[old]
        self._save()

    def _save(self) -> None:
        wire = {"day": self._day, "spent": self._spent, "sent": self._sent}
        write_atomic(self._path, json.dumps(wire).encode())


def encode_chunks(samples: Samples, max_bytes: int = MAX_CHUNK_BYTES) -> list[bytes]:
    """Cut samples into canonical CBOR chunks that fit with their envelope.

    Raises:
        UploadError: There are no rows, or one row alone is too large.
    """
    rows, channels = samples.x.shape if samples.x.ndim == 2 else (0, 0)
    if not rows or not channels:
        raise UploadError(
            "samples: expected rows to send, found none",
            next_step="ask for a larger part of the recordings",
        )
    row_bytes = 4 * channels + (4 if samples.y is not None else 0)
    longest = max(len(name.encode()) for name in samples.recording)
    room = max_bytes - OVERHEAD_BYTES - _FRAME_BYTES
    room -= sum(len(name.encode()) + _RUN_BYTES for name in samples.names)
    # At worst every row is a recording of its own; real data has few.
    runs = sum(1 for _ in groupby(samples.recording))
    room -= min(runs, rows) * (longest + _RUN_BYTES)
    count = room // row_bytes
    if count < 1:
        raise UploadError(
            f"samples: expected rows that fit into {max_bytes} bytes, found "
            f"{row_bytes} bytes a row and {runs} recordings",
            next_step="ask for fewer recordings",
        )
    parts = list(_cuts(rows, count))
    return [_encode(samples, start, stop, len(parts)) for start, stop in parts]


def _cuts(rows: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, count):
        yield start, min(rows, start + count)


def _encode(samples: Samples, start: int, stop: int, chunks: int) -> bytes:
    runs = [
        [name, len(list(run))] for name, run in groupby(samples.recording[start:stop])
    ]
    body: dict[int, Any] = {
        1: [stop - start, samples.x.shape[1]],
        2: "<f4",
        3: samples.x[start:stop].astype("<f4").tobytes(),
        4: runs,
        6: list(samples.names),
        7: chunks,
    }
    if samples.y is not None:
        body[5] = samples.y[start:stop].astype("<i4").tobytes()
    return encode_cbor(body)
