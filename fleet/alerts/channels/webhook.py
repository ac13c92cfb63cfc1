# SPDX-License-Identifier: Apache-2.0
"""Alerts to an HTTP receiver, as signed JSON.

Owns docs/reference/alerts.md, section "Webhook": the body, the headers and the
signature. The whole exchange has one deadline: a receiver that answers a byte a minute
holds this channel no longer than that, and no other at all.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from fleet.alerts.channels.channel import DeliveryError
from fleet.config import WebhookConfig
from fleet.services import Clock

SIGNATURE_HEADER: Final = "Edgeloop-Signature"
_SECOND_US: Final = 1_000_000
_LEAST_SECRET: Final = 16


class WebhookChannel:
    """Implements ``Channel`` over HTTP.

    Args:
        name: Its name in ``fleet.yaml``.
        config: Address, secret and deadline.
        clock: The time in signatures.
    """

    batch = 100

    def __init__(self, name: str, config: WebhookConfig, clock: Clock) -> None:
        self.name = f"webhook:{name}"
        self._config = config
        self._clock = clock

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Post events; only a 2xx status means that they were taken.

        Raises:
            DeliveryError: Any other answer, or none within the deadline.
        """
        body = json.dumps({"version": 1, "events": list(events)}).encode()
        time_s = self._clock.wall_us() // _SECOND_US
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign(read_secret(self._config), time_s, body),
        }
        deadline = self._config.timeout_seconds
        try:
            status = asyncio.run(
                asyncio.wait_for(self._post(body, headers), timeout=deadline)
            )
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            what = str(error) or f"no answer within {deadline:g} s"
            raise _failed(self.name, self._config.url, what) from error
        if not httpx.codes.is_success(status):
            raise _failed(self.name, self._config.url, f"status {status}")

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
            # The body of the answer is never read.
            client.stream(
                "POST", self._config.url, content=body, headers=headers
            ) as response,
        ):
            return response.status_code


def sign(secret: bytes, time_s: int, body: bytes) -> str:
    """Return the signature header of ``body``.

    >>> sign(b"k" * 16, 1_700_000_000, b"{}")[:22]
    't=1700000000,v1=6d58fb'
    """
    signed = str(time_s).encode() + b"." + body
    digest = hmac.new(secret, signed, hashlib.sha256).hexdigest()
    return f"t={time_s},v1={digest}"


def read_secret(config: WebhookConfig) -> bytes:
    """Read the secret, without the line's end; it may change at any time.

    Raises:
        DeliveryError: It cannot be read, or is too short to be one.
    """
    path = Path(config.secret_file)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        message = f"{path}: expected the secret of a webhook: {error.strerror}"
        step = f"write one: openssl rand -hex 32 > {path}"
        raise DeliveryError(message, next_step=step) from error
    if len(secret) < _LEAST_SECRET:
        message = (
            f"{path}: expected at least {_LEAST_SECRET} bytes, found {len(secret)}"
        )
        step = f"write one: openssl rand -hex 32 > {path}"
        raise DeliveryError(message, next_step=step)
    return secret


def _failed(name: str, url: str, what: str) -> DeliveryError:
    message = f"{name}: {url}: expected a 2xx answer, found: {what}"
    return DeliveryError(message, next_step="check the receiver and its log")
