# SPDX-License-Identifier: Apache-2.0
"""Symmetric keys: one master on the server, one key a device, one a purpose.

Owns the derivation of docs/spec/envelope.md (HKDF-SHA-256, RFC 5869, by the standard
library). It reads no file and keeps no key; where keys live is the caller's matter.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from edge_contract.errors import KeyFormatError

KEY_BYTES = 32
MAX_EPOCH = 0xFFFF


def hkdf_sha256(
    key: bytes, *, info: bytes, length: int = KEY_BYTES, salt: bytes = b""
) -> bytes:
    r"""Derive ``length`` bytes from ``key`` (RFC 5869, extract then expand).

    >>> hkdf_sha256(b"\x0b" * 22, info=b"", length=8).hex()
    '8da4e775a563c18f'
    """
    pseudo_random = hmac.digest(salt or bytes(32), key, "sha256")
    block, output, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(pseudo_random, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:length]


def generate_master_key() -> bytes:
    """Return 32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def derive_device_key(master: bytes, device_id: str, epoch: int) -> bytes:
    """Derive the key of one device in one key epoch from the server's master key.

    Raises:
        KeyFormatError: The master key has not 32 bytes, or the epoch is out of range.
    """
    _check_key(master, "master key")
    _check_epoch(epoch)
    return hkdf_sha256(master, info=f"edgeloop/1/device/{device_id}/{epoch}".encode())


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The keys that a device key gives, one a direction and purpose."""

    epoch: int
    up: bytes = field(repr=False)
    down: bytes = field(repr=False)
    broker_password: str = field(repr=False)

    @classmethod
    def from_device_key(cls, key: bytes, epoch: int) -> "DeviceKeys":
        """Derive all keys of a device.

        Raises:
            KeyFormatError: The key has not 32 bytes, or the epoch is out of range.
        """
        _check_key(key, "device key")
        _check_epoch(epoch)
        password = hkdf_sha256(key, info=b"edgeloop/1/broker", length=24)
        return cls(
            epoch=epoch,
            up=hkdf_sha256(key, info=b"edgeloop/1/up"),
            down=hkdf_sha256(key, info=b"edgeloop/1/down"),
            broker_password=base64.urlsafe_b64encode(password).decode(),
        )


def fingerprint(key: bytes) -> str:
    """Return 16 hex digits that name ``key`` in logs without revealing it."""
    return hashlib.sha256(b"edgeloop/1/fingerprint" + key).hexdigest()[:16]


def _check_key(key: bytes, name: str) -> None:
    if len(key) != KEY_BYTES:
        msg = f"{name}: expected {KEY_BYTES} bytes, found {len(key)}"
        raise KeyFormatError(msg)


def _check_epoch(epoch: int) -> None:
    if not 1 <= epoch <= MAX_EPOCH:
        msg = f"key epoch: expected 1 to {MAX_EPOCH}, found {epoch}"
        raise KeyFormatError(msg)
