# SPDX-License-Identifier: Apache-2.0
"""Bundles: one file that holds a release, written reproducibly, read with suspicion.

Owns docs/spec/bundle.md: a zip of stored entries in sorted order with fixed times,
``manifest.json``, ``files/<sha256>`` and, where signed, ``signature.json``. The same
release gives the same bytes on any machine. Reading bounds the size, accepts no entry
that the manifest does not name, and checks each file's digest before returning it.
"""

import contextlib
import errno
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge_contract import signing
from edge_contract.canonical import decode_json, encode_json, sha256_hex
from edge_contract.errors import (
    BundleDigestError,
    BundleFormatError,
    BundleSignatureError,
    BundleUnsignedError,
    CanonicalError,
    EdgeError,
)
from edge_contract.golden import GoldenVectors
from edge_contract.manifest import MAX_MANIFEST_BYTES, Manifest
from edge_contract.profile import ReferenceProfile

MAX_BUNDLE_BYTES: Final = 512 * 1024 * 1024
MAX_ENTRIES: Final = 256
_MANIFEST = "manifest.json"
_SIGNATURE = "signature.json"
_MAX_SIGNATURE_BYTES = 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)
_READ_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
)


def write_bundle(
    path: Path,
    manifest: Manifest,
    contents: Mapping[str, bytes],
    *,
    sign_key: bytes | None = None,
) -> str:
    """Write a bundle at ``path``, whole or not at all.

    Args:
        path: Replaced if it exists.
        manifest: Names every file.
        contents: Digest to bytes of every file that the manifest names.
        sign_key: An Ed25519 private key in PEM, or None for an unsigned bundle.

    Returns:
        The release digest.

    Raises:
        BundleDigestError: A file does not have the digest it is listed under.
        BundleFormatError: The contents are not exactly what the manifest names.
        KeyFormatError: The key is not an Ed25519 private key.
        OSError: The disk refused.
    """
    if set(contents) != set(manifest.files):
        msg = "bundle: the contents are not exactly the files of the manifest"
        raise BundleFormatError(msg)
    for digest, data in contents.items():
        _check_digest(digest, data)
    Manifest.decode(manifest.encoded)
    entries = {f"files/{digest}": data for digest, data in contents.items()}
    entries[_MANIFEST] = manifest.encoded
    if sign_key is not None:
        public, signature = signing.sign(sign_key, manifest.encoded)
        entries[_SIGNATURE] = encode_json(
            {"key_id": signing.key_id(public), "signature": signature.hex()}
        )
    _write_zip(path, entries)
    return manifest.digest


class Bundle:
    """A bundle open for reading; use as a context manager or call ``close``."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: bytes) -> None:
        """Take over an archive whose entries were checked; see ``open``."""
        self.path = path
        self._archive = archive
        self.manifest_bytes = manifest
        self.digest = sha256_hex(manifest)
        self.manifest = Manifest.decode(manifest)

    @classmethod
    def open(cls, path: Path, *, max_bytes: int = MAX_BUNDLE_BYTES) -> "Bundle":
        """Open a bundle and check its form; file digests are checked when read.

        Raises:
            BundleFormatError: Not a bundle, truncated, or larger than ``max_bytes``.
            ManifestError: The manifest is malformed.
            OSError: The file cannot be read.
        """
        size = path.stat().st_size
        if size > max_bytes:
            msg = f"bundle {path.name}: expected at most {max_bytes} bytes"
            raise BundleFormatError(f"{msg}, found {size}")
        with _as_format_error(path):
            archive = zipfile.ZipFile(path)
        try:
            _check_entries(path, archive, size)
            data = _read_entry(path, archive, _MANIFEST, MAX_MANIFEST_BYTES)
            bundle = cls(path, archive, data)
            _check_against_manifest(path, archive, bundle.manifest)
        except BaseException:
            archive.close()
            raise
        return bundle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    @property
    def is_signed(self) -> bool:
        """Whether the bundle carries a signature, good or bad."""
        return _SIGNATURE in self._archive.namelist()

    def verify_signature(self, trusted_keys: Iterable[bytes]) -> str:
        """Check that a trusted key signed the manifest.

        Args:
            trusted_keys: Raw Ed25519 public keys, 32 bytes each.

        Returns:
            The id of the key that did.

        Raises:
            BundleUnsignedError: There is no signature.
            BundleSignatureError: None of the keys made it.
        """
        name = self.path.name
        if not self.is_signed:
            msg = f"bundle {name}: expected a signature, found none"
            raise BundleUnsignedError(
                msg, next_step="build it with --sign-key, or allow unsigned bundles"
            )
        data = _read_entry(self.path, self._archive, _SIGNATURE, _MAX_SIGNATURE_BYTES)
        try:
            wire = decode_json(data, max_bytes=_MAX_SIGNATURE_BYTES)
            signature = bytes.fromhex(wire["signature"])
        except (CanonicalError, KeyError, TypeError, ValueError) as error:
            msg = f"bundle {name}: the signature is malformed: {error}"
            raise BundleSignatureError(msg) from error
        for public in trusted_keys:
            if signing.verify(public, self.manifest_bytes, signature):
                return signing.key_id(public)
        msg = f"bundle {name}: no trusted key made its signature"
        raise BundleSignatureError(
            msg, next_step="check which key signed it, and which key you trust"
        )

    def read(self, digest: str) -> bytes:
        """Return the file with this digest, checked.

        Raises:
            BundleDigestError: The bytes do not have it.
            BundleFormatError: The manifest names no such file, or it is truncated.
        """
        size = self.manifest.files.get(digest)
        if size is None:
            raise _format_error(self.path, f"the manifest names no file {digest[:12]}…")
        data = _read_entry(self.path, self._archive, f"files/{digest}", size)
        _check_digest(digest, data)
        return data

    def check_files(self) -> None:
        """Read every file once and check its digest.

        Raises:
            BundleDigestError: A file was altered.
        """
        for digest in self.manifest.files:
            self.read(digest)

    @cached_property
    def profile(self) -> ReferenceProfile:
        """The reference profile.

        Raises:
            BundleFormatError: It is not the one that the manifest names.
        """
        profile = ReferenceProfile.decode(self.read(self.manifest.profile_file))
        if profile.ref_id.hex() != self.manifest.ref_id:
            raise _format_error(self.path, "ref_id and reference profile differ")
        return profile

    @cached_property
    def golden(self) -> GoldenVectors:
        """The golden vectors.

        Raises:
            BundleFormatError: They do not cover every variant.
        """
        golden = GoldenVectors.decode(self.read(self.manifest.golden_file))
        if set(golden.outputs) != {one.id for one in self.manifest.variants}:
            raise _format_error(self.path, "golden vectors must cover every variant")
        return golden


def _write_zip(path: Path, entries: Mapping[str, bytes]) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(entries):
                    info = zipfile.ZipInfo(name, _EPOCH)
                    info.create_system = 3
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, entries[name])
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_entries(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(names) > MAX_ENTRIES or len(set(names)) != len(names):
        raise _format_error(path, f"{len(names)} entries, some twice or too many")
    if names != sorted(names) or _MANIFEST not in names:
        raise _format_error(path, "entries are not sorted, or the manifest is missing")
    total = 0
    for info in infos:
        stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        if not stored or info.compress_size != info.file_size:
            raise _format_error(path, f"entry {info.filename[:80]!r} is not stored")
        total += info.file_size
    if total > size:
        raise _format_error(path, "entries overlap")


def _check_against_manifest(
    path: Path, archive: zipfile.ZipFile, manifest: Manifest
) -> None:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    del sizes[_MANIFEST]
    sizes.pop(_SIGNATURE, None)
    if sizes != {f"files/{name}": size for name, size in manifest.files.items()}:
        raise _format_error(path, "entries are not exactly the files of the manifest")


def _read_entry(
    path: Path, archive: zipfile.ZipFile, name: str, max_bytes: int
) -> bytes:
    if archive.getinfo(name).file_size > max_bytes:
        raise _format_error(path, f"{name} is longer than {max_bytes} bytes")
    with _as_format_error(path):
        return archive.read(name)


@contextlib.contextmanager
def _as_format_error(path: Path) -> Iterator[None]:
    """Turn what ``zipfile`` raises on bad bytes into our error."""
    try:
        yield
    except _READ_ERRORS as error:
        raise _format_error(path, str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile seeks where a bad offset points
            raise
        raise _format_error(path, "an offset points outside the file") from error


def _check_digest(digest: str, data: bytes) -> None:
    found = sha256_hex(data)
    if found != digest:
        msg = f"bundle: expected a file with sha256 {digest}, found {found}"
        raise BundleDigestError(msg, next_step="fetch or build the bundle again")


def _format_error(path: Path, problem: str) -> EdgeError:
    return BundleFormatError(
        f"bundle {path.name}: {problem}",
        next_step="check that the file is complete and is a bundle",
    )
