# SPDX-License-Identifier: Apache-2.0
"""Authenticated envelopes: COSE_Mac0 (RFC 9052) with HMAC-SHA-256.

Owns docs/spec/envelope.md. The topic (or URL path) that carries a message is
``external_aad``, so a message moved to another topic does not open. The tag is checked
before the payload is parsed. It neither parses payloads nor chooses keys.

An envelope is always the same array, ``[<<{1: 5}>>, {4: kid}, payload, tag]``, with the
key epoch as a two-byte ``kid``; any other form is refused.
"""

import hmac

from edge_contract.errors import EnvelopeFormatError, EnvelopeMacError
from edge_contract.keys import MAX_EPOCH

MAX_ENVELOPE_BYTES = 64 * 1024
OVERHEAD_BYTES = 50
_PREFIX = bytes.fromhex("8443a10105a10442")  # [h'a10105', {4: h'....
_STRUCTURE = bytes.fromhex("84644d41433043a10105")  # ["MAC0", h'a10105', ...
_TAG_HEAD = bytes.fromhex("5820")
_TAG_BYTES = 32
_EPOCH_END = len(_PREFIX) + 2
_ARGUMENT_BYTES = {0x58: 1, 0x59: 2, 0x5A: 4}
_SHORT_STRING = 0x40
_IMMEDIATE_END = 0x58


def seal(payload: bytes, *, key: bytes, epoch: int, aad: str) -> bytes:
    """Wrap ``payload`` so that only a holder of ``key`` could have made it.

    Args:
        payload: The encoded message.
        key: The direction's key, 32 bytes (``DeviceKeys.up`` or ``.down``).
        epoch: The key epoch, sent as ``kid``.
        aad: The full topic or URL path that will carry the message.
    """
    body = _byte_string_head(len(payload)) + payload
    tag = _mac(key, aad, body)
    return b"".join((_PREFIX, epoch.to_bytes(2, "big"), body, _TAG_HEAD, tag))


def read_epoch(data: bytes) -> int:
    """Return the key epoch that an envelope claims. Not authenticated.

    Raises:
        EnvelopeFormatError: The bytes do not begin as an envelope does.
    """
    if data[: len(_PREFIX)] != _PREFIX or len(data) < _EPOCH_END:
        msg = "envelope: expected a COSE_Mac0 array with HMAC-SHA-256"
        raise EnvelopeFormatError(msg)
    epoch = int.from_bytes(data[len(_PREFIX) : _EPOCH_END], "big")
    if not 1 <= epoch <= MAX_EPOCH:
        msg = f"envelope: expected a key epoch from 1 to {MAX_EPOCH}, found {epoch}"
        raise EnvelopeFormatError(msg)
    return epoch


def unseal(
    data: bytes, *, key: bytes, aad: str, max_bytes: int = MAX_ENVELOPE_BYTES
) -> bytes:
    """Return the payload of an envelope after checking its tag.

    Raises:
        EnvelopeFormatError: Not an envelope, or longer than ``max_bytes``.
        EnvelopeMacError: Altered, made with another key, or moved to another topic.
    """
    if len(data) > max_bytes:
        msg = f"envelope: expected at most {max_bytes} bytes, found {len(data)}"
        raise EnvelopeFormatError(msg)
    read_epoch(data)
    tag_start = len(data) - _TAG_BYTES
    payload_start = _payload_start(data, tag_start - len(_TAG_HEAD))
    body = data[_EPOCH_END : tag_start - len(_TAG_HEAD)]
    if not hmac.compare_digest(_mac(key, aad, body), data[tag_start:]):
        msg = f"envelope on {aad}: the authentication tag does not match"
        raise EnvelopeMacError(
            msg, next_step="check that device and server share the key epoch"
        )
    return data[payload_start : tag_start - len(_TAG_HEAD)]


def _mac(key: bytes, aad: str, body: bytes) -> bytes:
    external = aad.encode()
    structure = _STRUCTURE + _byte_string_head(len(external)) + external + body
    return hmac.digest(key, structure, "sha256")


def _byte_string_head(length: int) -> bytes:
    if length < _IMMEDIATE_END - _SHORT_STRING:
        return bytes([_SHORT_STRING + length])
    if length <= 0xFF:
        return bytes([0x58, length])
    if length <= 0xFFFF:
        return b"\x59" + length.to_bytes(2, "big")
    return b"\x5a" + length.to_bytes(4, "big")


def _payload_start(data: bytes, payload_end: int) -> int:
    """Find where the payload begins, requiring the shortest length encoding."""
    if payload_end <= _EPOCH_END:
        msg = f"envelope: truncated after {len(data)} bytes"
        raise EnvelopeFormatError(msg)
    head = data[_EPOCH_END]
    start = _EPOCH_END + 1 + _ARGUMENT_BYTES.get(head, 0)
    expected = _byte_string_head(payload_end - start) if start <= payload_end else b""
    tag_head = data[payload_end : payload_end + len(_TAG_HEAD)]
    if data[_EPOCH_END:start] != expected or tag_head != _TAG_HEAD:
        msg = "envelope: payload and tag do not fill the envelope exactly"
        raise EnvelopeFormatError(msg)
    return start
