# SPDX-License-Identifier: Apache-2.0
"""Key files: where they lie, how they are made and read.

Owns the folders ``keys/offline`` (root, targets, models: never read by the server,
and better moved to another machine) and ``keys/online`` (snapshot, timestamp and one
key a fleet). It signs nothing itself; see ``metadata``.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from fleet.registry.errors import RepositoryError
from fleet.registry.files import PRIVATE_MODE, save_bytes

OFFLINE_ROLES = ("root", "targets", "models")
ONLINE_ROLES = ("snapshot", "timestamp")
_PRIVATE_FOLDER_MODE = 0o700


def fleet_role(fleet: str) -> str:
    """Return the name of the TUF role that speaks for ``fleet``."""
    return f"fleet-{fleet}"


@dataclass(frozen=True)
class Keyring:
    """The key files below one ``keys`` folder.

    Attributes:
        folder: The folder that holds ``offline`` and ``online``.
    """

    folder: Path

    def path(self, role: str) -> Path:
        """Return where the private key of ``role`` lies."""
        place = "offline" if role in OFFLINE_ROLES else "online"
        return self.folder / place / f"{role}.pem"

    @property
    def builder_public(self) -> Path:
        """Where the public half of the ``models`` key lies."""
        return self.folder / "models.pub"

    def has(self, role: str) -> bool:
        """Whether the private key of ``role`` is on this machine."""
        return self.path(role).exists()

    def signer(self, role: str) -> CryptoSigner:
        """Load the key of ``role``.

        Raises:
            RepositoryError: The file is missing or is not an Ed25519 key.
        """
        path = self.path(role)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RepositoryError(
                f"{path}: expected the private key of role {role}, cannot read it:"
                f" {error.strerror}",
                next_step="restore the keys folder from its backup",
            ) from error
        return load_signer(data, str(path))

    def ensure(self, role: str) -> CryptoSigner:
        """Load the key of ``role``, making one first if there is none."""
        path = self.path(role)
        if not path.exists():
            path.parent.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
            save_bytes(path, _generate_pem(), mode=PRIVATE_MODE)
        return self.signer(role)

    def ensure_builder_public(self) -> None:
        """Write the public half of the ``models`` key beside the folders."""
        if self.has("models") and not self.builder_public.exists():
            save_bytes(self.builder_public, public_pem(self.path("models")))


def load_signer(pem: bytes, name: str) -> CryptoSigner:
    """Read an unencrypted PKCS #8 Ed25519 key; ``name`` is for the error message.

    Raises:
        RepositoryError: The bytes are no such key.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise RepositoryError(
            f"{name}: expected an Ed25519 private key in PEM, found something else",
            next_step="name the key file that `edge-fleet init` printed",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RepositoryError(
            f"{name}: expected an Ed25519 key, found {type(key).__name__}",
            next_step="name the key file that `edge-fleet init` printed",
        )
    return CryptoSigner(key)


def public_pem(private: Path) -> bytes:
    """Return the public half, in PEM, of the private key file ``private``."""
    key = load_pem_private_key(private.read_bytes(), password=None)
    return key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def _generate_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
