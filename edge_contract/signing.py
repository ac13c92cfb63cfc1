# SPDX-License-Identifier: Apache-2.0
"""Ed25519 signatures over manifests, and the key files that make them.

Owns docs/spec/bundle.md, section "Signature". ``cryptography`` is imported inside the
functions: a resident agent that verifies nothing never loads it. Raw public keys are 32
bytes; files are PEM (PKCS#8 and SubjectPublicKeyInfo).
"""

import base64
import hashlib
from typing import Final

from edge_contract.errors import KeyFormatError

CONTEXT: Final = b"edgeloop-bundle-v1\x00"
SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32


def generate_key() -> tuple[bytes, bytes]:
    """Return a new private key and its public key, both PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    private = ed25519.Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        ),
    )


def sign(private_pem: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Sign ``message``.

    Returns:
        The raw public key (32 bytes) and the signature (64 bytes).

    Raises:
        KeyFormatError: Not an unencrypted Ed25519 private key in PEM.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        private = serialization.load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError) as error:
        msg = f"private key: expected PEM without a password: {error}"
        raise KeyFormatError(msg) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        msg = f"private key: expected Ed25519, found {type(private).__name__}"
        raise KeyFormatError(msg)
    public = private.public_key().public_bytes_raw()
    return public, private.sign(CONTEXT + message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` over ``message`` verifies under a raw public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, CONTEXT + message)
    except (InvalidSignature, ValueError):
        return False
    return True


def parse_public_key(pem: bytes) -> bytes:
    """Return the 32 raw bytes of an Ed25519 public key in PEM.

    Raises:
        KeyFormatError: Not an Ed25519 public key in PEM.
    """
    lines = [line.strip() for line in pem.decode("ascii", "replace").splitlines()]
    try:
        start = lines.index("-----BEGIN PUBLIC KEY-----")
        end = lines.index("-----END PUBLIC KEY-----")
        der = base64.b64decode("".join(lines[start + 1 : end]), validate=True)
    except ValueError as error:
        msg = "public key: expected PEM with BEGIN PUBLIC KEY"
        raise KeyFormatError(msg) from error
    prefix = bytes.fromhex("302a300506032b6570032100")
    if len(der) != len(prefix) + PUBLIC_KEY_BYTES or not der.startswith(prefix):
        msg = "public key: expected an Ed25519 key"
        raise KeyFormatError(msg)
    return der[len(prefix) :]


def key_id(public: bytes) -> str:
    """Return the SHA-256 of a raw public key as hex; it names the key in bundles."""
    return hashlib.sha256(public).hexdigest()
