# SPDX-License-Identifier: Apache-2.0
"""Signing keys by address: a file, a hardware module, a cloud's key service.

Owns which addresses are taken, how the public half is found, and what the signing
library's refusals mean. ``file:PATH`` is an Ed25519 key in PEM; ``hsm:``, ``gcpkms:``,
``awskms:`` and ``azurekms:`` are securesystemslib's, for keys of Ed25519 or ECDSA
P-256; ``public:PATH`` is a key that somebody else holds. Where keys lie is
``keyring``'s.
"""

import getpass
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib import parse

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signer,
    SSlibKey,
)

from fleet.config import set_pkcs11_module
from fleet.registry.errors import KeyUnusableError, RepositoryError
from fleet.registry.files import PRIVATE_MODE, save_bytes

FILE: Final = "file"
PUBLIC: Final = "public"
HSM: Final = "hsm"
KINDS: Final = "ed25519", "ecdsa-sha2-nistp256"
_NAME_THE_KEY: Final = "name the key file that `edge-fleet init` printed"


@dataclass(frozen=True)
class KeyReference:
    """Where a signing key is, and its public half.

    Attributes:
        uri: Its address.
        public: The public half, under the id by which metadata names it.
    """

    uri: str
    public: Key

    @property
    def can_sign(self) -> bool:
        """Whether the address leads to the private half."""
        return not self.uri.startswith(f"{PUBLIC}:")

    @property
    def place(self) -> str:
        """What kind of address it is: ``file``, ``hsm``, ..."""
        return self.uri.partition(":")[0]

    def encode(self) -> bytes:
        """Return the bytes of a reference file."""
        key = {"keyid": self.public.keyid, **self.public.to_dict()}
        return json.dumps({"uri": self.uri, "key": key}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, name: str) -> "KeyReference":
        """Read a reference file; ``name`` is for the error message.

        Raises:
            RepositoryError: It is not one.
        """
        try:
            wire: Any = json.loads(data)
            key = dict(wire["key"])
            return cls(str(wire["uri"]), Key.from_dict(key.pop("keyid"), key))
        except (ValueError, KeyError, TypeError) as error:
            raise RepositoryError(
                f"{name}: expected a reference to a key, found: {error}",
                next_step="restore the keys folder from its backup",
            ) from error

    def open(self) -> Signer:
        """Return what signs with the key.

        Raises:
            KeyUnusableError: The file, module or service does not give it.
            RepositoryError: The file holds another key.
        """
        scheme, path, query = _split(self.uri)
        if scheme == FILE:
            signer: Signer = read_signer(Path(path))
            if signer.public_key.keyid != self.public.keyid:
                raise RepositoryError(
                    f"{path}: expected the key {self.public.keyid[:12]}, found"
                    f" {signer.public_key.keyid[:12]}",
                    next_step="restore the file from its backup",
                )
            return signer
        if scheme == HSM and "module" in query:
            set_pkcs11_module(query["module"])
        with _NamedRefusals(self.uri):
            return Signer.from_priv_key_uri(self.uri, self.public, _pin_source(query))


def find_key(uri: str) -> KeyReference:
    """Ask an address for its public half.

    Args:
        uri: ``file:PATH``, ``public:PATH``, ``hsm:[ID]?label=TOKEN&module=LIBRARY&
            pin-file=FILE``, ``gcpkms:``, ``awskms:`` or ``azurekms:`` and what
            securesystemslib wants after it.

    Raises:
        KeyUnusableError: There is no such key, or of another kind.
        RepositoryError: A file holds something else.
    """
    scheme, path, query = _split(uri)
    if scheme == FILE:
        absolute = Path(path).absolute()
        return KeyReference(f"{FILE}:{absolute}", read_signer(absolute).public_key)
    if scheme == PUBLIC:
        absolute = Path(path).absolute()
        return KeyReference(f"{PUBLIC}:{absolute}", read_public(absolute))
    importer = _IMPORTERS.get(scheme)
    if importer is None:
        raise KeyUnusableError(
            f"key {uri}: expected file:, public:, {', '.join(_IMPORTERS)}: before a"
            f" place, found {scheme or 'nothing'!r}",
            next_step="see docs/how-to/keep-keys.md",
        )
    with _NamedRefusals(uri):
        public = importer(path, query)
    if public.scheme not in KINDS:
        raise KeyUnusableError(
            f"key {uri}: expected {' or '.join(KINDS)}, found {public.scheme}",
            next_step="make a key on the curve P-256",
        )
    return KeyReference(uri, public)


def open_key(place: str) -> Signer:
    """Return what signs with a key that is named by its file, or by its address.

    Raises:
        KeyUnusableError: There is no such key.
        RepositoryError: The file holds something else.
    """
    named = place.partition(":")[0] in (FILE, *_IMPORTERS)
    return find_key(place if named else f"{FILE}:{place}").open()


def make_or_find_key(uri: str) -> KeyReference:
    """As ``find_key``; a ``file:`` that does not exist yet is made."""
    scheme, path, _ = _split(uri)
    if scheme == FILE and not Path(path).exists():
        make_key_file(Path(path).absolute())
    return find_key(uri)


def make_key_file(path: Path) -> None:
    """Write a new Ed25519 key, for its owner alone to read."""
    save_bytes(path, generate_pem(), mode=PRIVATE_MODE)


def generate_pem() -> bytes:
    """Return a new Ed25519 private key in PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def read_signer(path: Path) -> CryptoSigner:
    """Read an unencrypted PKCS #8 Ed25519 key.

    Raises:
        RepositoryError: It cannot be read or is no such key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise RepositoryError(
            f"{path}: expected a private key, cannot read it: {error.strerror}",
            next_step="name the key's file, or restore it from its backup",
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RepositoryError(
            f"{path}: expected an Ed25519 private key in PEM, found something else",
            next_step=_NAME_THE_KEY,
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RepositoryError(
            f"{path}: expected an Ed25519 key, found {type(key).__name__}",
            next_step=_NAME_THE_KEY,
        )
    return CryptoSigner(key)


def read_public(path: Path) -> SSlibKey:
    """Read a public key in PEM.

    Raises:
        RepositoryError: It cannot be read or is of another kind.
    """
    next_step = "write it with `edge-fleet keys public` where the private key is"
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RepositoryError(
            f"{path}: expected a public key in PEM, found: {error}", next_step=next_step
        ) from error
    if key.scheme not in KINDS:
        raise RepositoryError(
            f"{path}: expected {' or '.join(KINDS)}, found {key.scheme}",
            next_step=next_step,
        )
    return key


def public_pem(key: Key) -> bytes:
    """Return a public key in PEM."""
    value: str = key.to_dict()["keyval"]["public"]
    if value.startswith("-----"):
        return value.encode()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _split(uri: str) -> tuple[str, str, dict[str, str]]:
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    return scheme, path, dict(parse.parse_qsl(query))


def _pin_source(query: dict[str, str]) -> Callable[[str], str]:
    def read_pin(what: str) -> str:
        if "pin-file" in query:
            return Path(query["pin-file"]).read_text(encoding="utf-8").strip()
        if sys.stdin.isatty():
            return getpass.getpass(f"{what}: ")
        raise KeyUnusableError(
            f"key: expected a {what} for the module, found none",
            next_step="add &pin-file=FILE to the key's address",
        )

    return read_pin


def _import_hsm(path: str, query: dict[str, str]) -> SSlibKey:
    if "module" in query:
        set_pkcs11_module(query["module"])
    number = int(path) if path else None
    _, key = HSMSigner.import_(number, query.get("label"), _pin_source(query))
    return key


def _import_azure(path: str, _query: dict[str, str]) -> SSlibKey:
    host, _, name = path.removeprefix("//").partition("/keys/")
    _, key = AzureSigner.import_(host.partition(".")[0], name.partition("/")[0])
    return key


_IMPORTERS: Final[dict[str, Callable[[str, dict[str, str]], SSlibKey]]] = {
    HSM: _import_hsm,
    "gcpkms": lambda path, _: GCPSigner.import_(path)[1],
    "awskms": lambda path, _: AWSSigner.import_(path)[1],
    "azurekms": _import_azure,
}


class _NamedRefusals:
    """Maps what the signing libraries raise to our error, naming the key."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, KeyUnusableError):
            return
        scheme = self._uri.partition(":")[0]
        if isinstance(error, UnsupportedLibraryError):
            raise KeyUnusableError(
                f"key {self._uri}: expected the library that signs with {scheme}:,"
                f" found none: {error}",
                next_step=f"pip install 'securesystemslib[{scheme}]'",
            ) from error
        # A module or a cloud's client may raise anything of its own.
        raise KeyUnusableError(
            f"key {self._uri}: cannot be used: {type(error).__name__}: {error}",
            next_step="check the address, the module or service, and the PIN",
        ) from error
