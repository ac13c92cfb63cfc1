# SPDX-License-Identifier: Apache-2.0
import dataclasses
import zipfile
from pathlib import Path

import pytest

from edge_contract import signing
from edge_contract.bundle import Bundle, write_bundle
from edge_contract.canonical import decode_json, encode_json, sha256_hex
from edge_contract.errors import (
    BundleDigestError,
    BundleFormatError,
    BundleSignatureError,
    BundleUnsignedError,
    EdgeError,
    KeyFormatError,
    ManifestError,
)
from edge_contract.manifest import Manifest
from tests.support.contract_samples import make_release

PRIVATE, PUBLIC_PEM = signing.generate_key()
PUBLIC = signing.parse_public_key(PUBLIC_PEM)


def write(path: Path, *, sign: bool = True) -> str:
    manifest, files = make_release()
    return write_bundle(path, manifest, files, sign_key=PRIVATE if sign else None)


def rewrite(path: Path, entries: dict[str, bytes], **options: int) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_round_trip(tmp_path: Path) -> None:
    digest = write(tmp_path / "a.bundle")

    with Bundle.open(tmp_path / "a.bundle") as bundle:
        assert bundle.digest == digest == make_release()[0].digest
        assert bundle.verify_signature([bytes(32), PUBLIC]) == signing.key_id(PUBLIC)
        bundle.check_files()
        assert bundle.profile.ref_id.hex() == bundle.manifest.ref_id
        assert bundle.golden.inputs.shape == (4, 2)
        assert bundle.manifest.select("unheard-of").id == "float32"


def test_the_same_release_is_the_same_bytes_and_leaves_nothing_else(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.bundle")
    write(tmp_path / "b.bundle")

    assert (tmp_path / "a.bundle").read_bytes() == (tmp_path / "b.bundle").read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.bundle", "b.bundle"]


def test_unsigned_has_the_same_digest_and_says_so(tmp_path: Path) -> None:
    digest = write(tmp_path / "a.bundle", sign=False)

    with Bundle.open(tmp_path / "a.bundle") as bundle:
        assert bundle.digest == digest
        assert not bundle.is_signed
        with pytest.raises(BundleUnsignedError, match="--sign-key"):
            bundle.verify_signature([PUBLIC])


def test_another_key_is_not_trusted(tmp_path: Path) -> None:
    write(tmp_path / "a.bundle")
    other = signing.parse_public_key(signing.generate_key()[1])

    with (
        Bundle.open(tmp_path / "a.bundle") as bundle,
        pytest.raises(BundleSignatureError),
    ):
        bundle.verify_signature([other])


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(EdgeError):
            Bundle.open(path)


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    data = bytearray(path.read_bytes())
    original = entries_of(path)
    unnoticed = []
    for position in range(0, len(data), 3):
        data[position] ^= 0x10
        path.write_bytes(data)
        try:
            with Bundle.open(path) as bundle:
                bundle.verify_signature([PUBLIC])
                bundle.check_files()
            if entries_of(path) != original:
                unnoticed.append(position)
        except EdgeError:
            pass
        data[position] ^= 0x10
    assert unnoticed == []


@pytest.mark.parametrize("data", [b"", b"PK", b"TFL3" * 100, b"PK\x05\x06" + bytes(18)])
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.bundle"
    path.write_bytes(data)

    with pytest.raises(BundleFormatError, match="check that the file is complete"):
        Bundle.open(path)


def test_an_altered_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    entries = entries_of(path)
    model = make_release()[0].variants[0].file
    entries[f"files/{model}"] = b"X" * len(entries[f"files/{model}"])
    rewrite(path, entries)

    with Bundle.open(path) as bundle, pytest.raises(BundleDigestError, match=model):
        bundle.check_files()


@pytest.mark.parametrize(
    "change",
    [
        {"../evil": b"x"},
        {"files/evil": b"x"},
        {"zz": b"x"},
    ],
)
def test_entries_that_the_manifest_does_not_name_are_refused(
    tmp_path: Path, change: dict[str, bytes]
) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    rewrite(path, dict(sorted((entries_of(path) | change).items())))

    with pytest.raises(BundleFormatError):
        Bundle.open(path)


def test_unsorted_and_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    entries = entries_of(path)
    rewrite(path, dict(reversed(entries.items())))
    with pytest.raises(BundleFormatError, match="not sorted"):
        Bundle.open(path)

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(BundleFormatError, match="not stored"):
        Bundle.open(path)


def test_a_file_above_the_bound_is_refused_unread(tmp_path: Path) -> None:
    write(tmp_path / "a.bundle")

    with pytest.raises(BundleFormatError, match="at most 100 bytes"):
        Bundle.open(tmp_path / "a.bundle", max_bytes=100)


def test_contents_must_be_what_the_manifest_names(tmp_path: Path) -> None:
    manifest, files = make_release()
    path = tmp_path / "a.bundle"
    with pytest.raises(BundleFormatError):
        write_bundle(path, manifest, {})
    wrong = dict.fromkeys(files, b"other")
    with pytest.raises(BundleDigestError):
        write_bundle(path, manifest, wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"selected": {}},
        {"selected": {"default": "other"}},
        {"variants": ()},
        {"task": "regression"},
        {"observe": "series"},
        {"golden_file": sha256_hex(b"")},
        {"name": "../x"},
    ],
)
def test_inconsistent_manifests_are_refused(change: dict[str, object]) -> None:
    manifest = dataclasses.replace(make_release()[0], **change)  # type: ignore[arg-type]

    with pytest.raises(ManifestError):
        Manifest.decode(manifest.encoded)


@pytest.mark.parametrize(
    "pem", [b"", b"x", PUBLIC_PEM], ids=["empty", "byte", "public"]
)
def test_what_is_no_private_key_is_named(pem: bytes) -> None:
    with pytest.raises(KeyFormatError, match="private key"):
        signing.sign(pem, b"")


@pytest.mark.parametrize(
    "pem",
    [b"", b"\xff", PRIVATE, PUBLIC_PEM[:-40]],
    ids=["empty", "byte", "private", "cut"],
)
def test_what_is_no_public_key_is_named(pem: bytes) -> None:
    with pytest.raises(KeyFormatError, match="public key"):
        signing.parse_public_key(pem)


@pytest.mark.parametrize("lie", [1, 2**40])
def test_a_manifest_that_lies_about_a_size_is_refused_before_its_file_is_read(
    tmp_path: Path, lie: int
) -> None:
    path = tmp_path / "a.bundle"
    write(path)
    entries = entries_of(path)
    manifest = decode_json(entries["manifest.json"], max_bytes=1 << 20)
    digest = manifest["golden_file"]
    assert manifest["files"][digest] not in {1, 2**40}
    manifest["files"][digest] = lie
    entries["manifest.json"] = encode_json(manifest)
    rewrite(path, entries)

    with (
        pytest.raises(BundleFormatError) as caught,
        Bundle.open(path) as bundle,
    ):
        bundle.check_files()
    assert caught.value.next_step
