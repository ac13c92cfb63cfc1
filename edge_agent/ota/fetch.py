# SPDX-License-Identifier: Apache-2.0
"""Fetching: a file of known length and digest over a network that breaks off.

Owns the part file and its sidecar. What arrived is synced every 4 MiB, and continued
with ``Range`` and ``If-Range`` after a cut, a restart or a kill. The server is not
trusted: the length bounds what is read, the digest decides at the end. Bytes that were
put together from several answers and are wrong are fetched once more, as a whole.

Retry rules (RFC 9110): a broken connection, 408, 425, 429 and 5xx are tried again with
full jitter, or after ``Retry-After``, which defers the update where it is long; any
other status is final; a full disk is no network fault and defers, too. An answer that
comes by drops, and attempts that bring next to nothing, are failures like a cut. At
most twice the length is read in all.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, Protocol

import urllib3

from edge_agent.clock import Clock, SystemClock
from edge_agent.errors import UpdateError, UpdateTrustError
from edge_agent.ota.deferral import DiskFullError, ServerBusyError
from edge_agent.ota.slots import free_bytes
from edge_agent.store import write_atomic

SYNC_BYTES: Final = 4 * 1024 * 1024
MAX_ATTEMPTS: Final = 8
FIRST_DELAY_SECONDS: Final = 1.0
MAX_DELAY_SECONDS: Final = 60.0
FREE_RESERVE: Final = 1.1
BUDGET_FACTOR: Final = 2
LONGEST_DEFERRAL_SECONDS: Final = 86_400.0
PROGRESS_BYTES: Final = 16 * 1024
SLOW_SECONDS: Final = 30.0
SLOW_BYTES: Final = 16 * 1024  # fewer in SLOW_SECONDS of waiting are a failure
_CHUNK_BYTES = 64 * 1024
_OK = 200
_PARTIAL = 206
_UNSATISFIABLE = 416
_RETRYABLE = frozenset({408, 425, 429})
_SERVER_ERRORS = 500
_MAX_DIGITS = 9


class PermanentFetchError(UpdateError):
    """The server says that asking again is useless."""

    code = "agent.update.fetch-refused"


class InterruptedFetchError(UpdateError):
    """The network failed too often; what arrived is kept."""

    code = "agent.update.fetch-interrupted"


class Access(Protocol):
    """Who sends the requests; ``access.HttpAccess`` in production."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the response with its body unread."""


class SlowServerError(UpdateError):
    """The answer comes by drops."""

    code = "agent.update.slow"


class Allowance(Protocol):
    """Who decides how much may be read, and when; ``spending.Spending``."""

    def take(self, wanted: int) -> int:
        """Return how many bytes may be read next: from 1 up to ``wanted``.

        Raises:
            DeferredError: The update has to wait.
        """

    def took(self, count: int) -> None:
        """Hear what was read."""

    def close(self) -> None:
        """Hear that nothing more will be."""


class Freely:
    """Allows everything."""

    def take(self, wanted: int) -> int:
        """Return all of it."""
        return wanted

    def took(self, count: int) -> None:
        """Not care."""

    def close(self) -> None:
        """Not care."""


class ServerAccess(Access, Protocol):
    """Access to one server, or to a folder in its place."""

    base: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched: so many bytes with this digest, in hex."""

    url: str
    length: int
    digest: str
    algorithm: str = "sha256"


@dataclass
class Download:
    """Fetches one file into a part file.

    Args:
        wanted: What to fetch.
        part: Where; a sidecar lies beside it.
        access: Sends the requests.
        sleep: Waits between attempts.
        random: Source of jitter.
        allowance: Decides how much may be read.
        clock: The time.
    """

    wanted: Wanted
    part: Path
    access: Access
    sleep: Callable[[float], None] = time.sleep
    random: Random = field(default_factory=SystemRandom)
    allowance: Allowance = field(default_factory=Freely)
    clock: Clock = field(default_factory=SystemClock)
    received_bytes: int = 0
    _etag: str | None = None
    _is_pieced: bool = False

    def run(self) -> Path:
        """Return the part file, complete, synced and with the right digest.

        Raises:
            PermanentFetchError: The server refused for good.
            InterruptedFetchError: It broke off too often; call again later.
            DeferredError: No room, or not now; what arrived is kept.
            UpdateTrustError: What arrived has another digest; it was deleted.
        """
        self.part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._etag = self._resume_etag()
        self._is_pieced = self._have() > 0
        try:
            self._fetch()
            found = self._digest()
            if found != self.wanted.digest and self._is_pieced:
                self._reset(None)
                self._is_pieced = False
                self._fetch()
                found = self._digest()
        finally:
            self.allowance.close()
        self._verify(found)
        return self.part

    def _fetch(self) -> None:
        failures = 0
        while (have := self._have()) < self.wanted.length:
            missing = self.wanted.length - have
            check_room(self.part.parent, missing)
            try:
                delay = self._attempt(have)
            except (
                *(urllib3.exceptions.HTTPError, SlowServerError),
                *(ConnectionError, TimeoutError),
            ):
                delay = None
            gained = self._have() - have
            failures = 0 if gained >= min(PROGRESS_BYTES, missing) else failures + 1
            spent = self.received_bytes >= BUDGET_FACTOR * self.wanted.length
            if self._have() < self.wanted.length:
                if failures >= MAX_ATTEMPTS or spent:
                    raise InterruptedFetchError(
                        f"{self.wanted.url}: expected {self.wanted.length} bytes, "
                        f"found {self._have()} after {failures} failures in a row",
                        next_step="the device tries again later, from there",
                    )
                self.sleep(retry_delay_seconds(failures, delay, self.random))

    def _attempt(self, have: int) -> float | None:
        """Make one request; return the pause that the server asks for, if it does."""
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self._etag:
            headers["If-Range"] = self._etag
        response = self.access.request("GET", self.wanted.url, headers=headers)
        try:
            status = response.status
            if status in {_OK, _PARTIAL} and _is_encoded(response):
                raise PermanentFetchError(
                    f"{self.wanted.url}: expected no content encoding"
                )
            if status == _OK:
                self._reset(_strong(response.headers.get("ETag")))
                self._receive(response, 0)
            elif status == _PARTIAL and _continues(response, have, self.wanted.length):
                self._is_pieced = True
                self._receive(response, have)
            elif status in {_PARTIAL, _UNSATISFIABLE}:
                self._reset(None)
            elif status in _RETRYABLE or status >= _SERVER_ERRORS:
                return self._patience(response)
            else:
                raise PermanentFetchError(
                    f"{self.wanted.url}: expected 200 or 206, found status {status}",
                    next_step="check the server; the release may be withdrawn",
                )
            return None
        finally:
            response.close()

    def _receive(self, response: urllib3.BaseHTTPResponse, start: int) -> None:
        left, unsynced = self.wanted.length - start, 0
        pace = _Pace(self.clock)
        with self.part.open("r+b" if start else "wb", buffering=0) as stream:
            stream.seek(start)
            try:
                while left:
                    most = self.allowance.take(min(left, _CHUNK_BYTES))
                    with pace:
                        chunk = response.read1(most, decode_content=False)
                    if not chunk:
                        break
                    self._write(stream.fileno(), chunk)
                    left -= len(chunk)
                    unsynced += len(chunk)
                    self.received_bytes += len(chunk)
                    self.allowance.took(len(chunk))
                    pace.check(len(chunk))
                    if unsynced >= SYNC_BYTES:
                        os.fsync(stream.fileno())
                        unsynced = 0
            finally:
                os.fsync(stream.fileno())

    def _patience(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the pause that the server asks for, as far as we wait for it here."""
        now_us = self.clock.wall_us()
        asked = _retry_after(response, now_us / 1e6)
        if asked is None or asked <= MAX_DELAY_SECONDS:
            return asked
        until_us = now_us + int(min(asked, LONGEST_DEFERRAL_SECONDS) * 1e6)
        raise ServerBusyError(
            f"{self.wanted.url}: the server asks to come again in {asked:.0f} s",
            until_us=until_us,
        )

    def _write(self, descriptor: int, chunk: bytes) -> None:
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise DiskFullError(
                f"{self.part}: {error.strerror}",
                next_step="make room on the disk; the device tries again later",
            ) from error

    def _digest(self) -> str:
        with self.part.open("rb") as stream:
            return hashlib.file_digest(stream, self.wanted.algorithm).hexdigest()

    def _verify(self, found: str) -> None:
        if found != self.wanted.digest:
            self.discard()
            raise UpdateTrustError(
                f"{self.wanted.url}: expected {self.wanted.algorithm} "
                f"{self.wanted.digest}, found {found}; the bytes were deleted",
                next_step="check the file server: it may be damaged, or lie",
            )

    def discard(self) -> None:
        """Delete what was fetched."""
        for path in (self.part, self._sidecar):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    @property
    def _sidecar(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def _have(self) -> int:
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def _resume_etag(self) -> str | None:
        """Return the ETag of what is there, if it belongs to what is wanted."""
        try:
            wire = json.loads(self._sidecar.read_bytes())
        except (OSError, ValueError):
            wire = None
        fits = (
            isinstance(wire, dict)
            and wire.get("digest") == self.wanted.digest
            and isinstance(wire.get("etag"), str | None)
            and self._have() <= self.wanted.length
        )
        if fits and isinstance(wire, dict):
            etag: str | None = wire["etag"]
            return etag
        self.discard()
        return None

    def _reset(self, etag: str | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.part.unlink()
        self._etag = etag
        wire = {"digest": self.wanted.digest, "etag": etag}
        try:
            write_atomic(self._sidecar, json.dumps(wire).encode())
        except OSError as error:
            raise DiskFullError(
                f"{self._sidecar}: {error.strerror}",
                next_step="make room on the disk; the device tries again later",
            ) from error


class _Pace:
    """Measures how long is waited for bytes, and how few come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_us = self._waited_us = self._bytes = 0

    def __enter__(self) -> None:
        self._began_us = self._clock.monotonic_us()

    def __exit__(self, *_: object) -> None:
        self._waited_us += self._clock.monotonic_us() - self._began_us

    def check(self, count: int) -> None:
        """Take what came.

        Raises:
            SlowServerError: It was too little for the time.
        """
        self._bytes += count
        if self._waited_us < SLOW_SECONDS * 1e6:
            return
        if self._bytes < SLOW_BYTES:
            msg = f"expected {SLOW_BYTES} bytes in {SLOW_SECONDS:g} s of waiting, found"
            raise SlowServerError(f"{msg} {self._bytes}")
        self._waited_us = self._bytes = 0


def check_room(folder: Path, missing: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        DiskFullError: There are fewer bytes free than ``missing`` and a tenth.
    """
    needed = int(missing * FREE_RESERVE)
    free = free_bytes(folder)
    if free < needed:
        raise DiskFullError(
            f"{folder}: expected {needed} free bytes, found {free}",
            next_step="make room on the disk; the device tries again later",
        )


def retry_delay_seconds(
    failures: int, asked_seconds: float | None, random: Random
) -> float:
    """Return the pause before the next attempt.

    >>> retry_delay_seconds(0, 7.0, Random(1))
    7.0
    """
    if asked_seconds is not None:
        return min(asked_seconds, MAX_DELAY_SECONDS)
    ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**failures)
    return random.uniform(0.0, ceiling)


def _is_encoded(response: urllib3.BaseHTTPResponse) -> bool:
    return response.headers.get("Content-Encoding", "identity") != "identity"


def _continues(response: urllib3.BaseHTTPResponse, start: int, length: int) -> bool:
    expected = f"bytes {start}-{length - 1}/{length}"
    return response.headers.get("Content-Range") == expected


def _strong(etag: str | None) -> str | None:
    """Return a validator for ``If-Range``, which takes no weak one (RFC 9110, 13.1.5).

    Without one a range is asked for all the same: the digest decides.
    """
    return None if etag is None or etag.startswith("W/") else etag


def _retry_after(response: urllib3.BaseHTTPResponse, now: float) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, in either of its forms."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:_MAX_DIGITS])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
