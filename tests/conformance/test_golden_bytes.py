# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields

import numpy as np
import pytest

from edge_contract.envelope import read_epoch, unseal
from edge_contract.evidence import Shadow
from edge_contract.keys import DeviceKeys, derive_device_key, hkdf_sha256
from edge_contract.messages import decode_announce, decode_down, decode_state, decode_up
from edge_contract.profile import ReferenceProfile
from edge_contract.reference_model import ReferenceModel
from edge_contract.window_report import WindowReport
from tests.conformance import samples

VECTORS = samples.all_vectors()


def read(name: str) -> bytes:
    return bytes.fromhex((samples.FOLDER / f"{name}.hex").read_text())


@pytest.mark.parametrize("name", VECTORS)
def test_encoders_give_the_golden_bytes(name: str) -> None:
    assert VECTORS[name].hex() == read(name).hex()


def test_no_vector_is_without_its_value() -> None:
    assert {one.stem for one in samples.FOLDER.glob("*.hex")} == set(VECTORS)


@pytest.mark.parametrize("kind", ["birth", "event", "update", "reply", "window"])
def test_up_bodies_decode(kind: str) -> None:
    assert decode_up(kind, read(f"message-{kind}")).boot_id == samples.BOOT_ID


@pytest.mark.parametrize("kind", ["ack", "want", "cmd"])
def test_down_bodies_decode(kind: str) -> None:
    name = {"cmd": "command"}.get(kind, kind)

    assert decode_down(kind, read(f"message-{name}")).down_seq > 0


def test_state_and_announce_decode() -> None:
    assert decode_state(read("message-state")).time_us == samples.TIME_US
    assert decode_announce(read("message-announce")).spread_seconds == 30


def test_the_envelope_opens_to_the_window_and_its_statistics() -> None:
    keys = DeviceKeys.from_device_key(
        derive_device_key(samples.MASTER_KEY, "watch-3", 2), 2
    )
    data = read("envelope")
    profile = ReferenceProfile.decode(read("profile"))

    report = WindowReport.decode(unseal(data, key=keys.up, aad=samples.TOPIC))
    statistics = report.statistics(profile)

    assert read_epoch(data) == 2
    assert statistics.counts[profile.layout.bins(0)].tolist() == [1, 0, 1, 0]
    assert statistics.counts[profile.layout.bins(1)].tolist() == [3]
    assert statistics.counts[profile.layout.missing].tolist() == [1, 0]
    assert statistics.counts[profile.layout.below].tolist() == [1, 0]
    assert statistics.counts[profile.layout.above].tolist() == [0, 1]
    assert statistics.counts[profile.layout.repeat].tolist() == [0, 1]
    assert statistics.counts[profile.layout.classes].tolist() == [0, 1]
    np.testing.assert_allclose(statistics.mean, [-2.25, 7 / 3], rtol=1e-6)


def test_a_window_tells_how_the_device_fared() -> None:
    report = WindowReport.decode(read("message-window-operations"))
    found = report.operations()

    assert found is not None
    assert np.flatnonzero(found.latency).tolist() == [0, 10, 97]
    assert found.latency.sum() == 3
    scalars = [getattr(found, one.name) for one in fields(found)[1:]]
    assert scalars == [300_000, 0, 41_000, 130, -5, True, 12_000]
    assert WindowReport.decode(read("message-window")).operations() is None


def test_a_window_tells_of_labels_and_of_a_shadow() -> None:
    report = WindowReport.decode(read("message-window-evidence"))
    found = report.feedback()

    assert found is not None
    assert np.flatnonzero(found.labels).tolist() == [3, 15]
    assert found.labels.sum() == 5
    assert found.errors.tolist() == [0, 0, 0, 2] + [0] * 12
    assert report.shadow == Shadow(samples.DIGEST[8:16], 300, 7)


def test_a_private_window_holds_negative_counts_and_derived_moments() -> None:
    profile = ReferenceProfile.decode(read("profile"))

    report = WindowReport.decode(read("message-window-private"))
    statistics = report.statistics(profile)

    assert report.epsilon_millionths == 500_000
    assert report.moment_block == b""
    assert statistics.counts[profile.layout.bins(0)].tolist() == [-4, -3, -2, -1]
    assert statistics.mean[1] == 2.0
    assert np.isfinite(statistics.mean).all()


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        (
            "linear",
            [[1, 2], [3, 2]],
            [[0.26894142, 0.73105858], [0.62245933, 0.37754067]],
        ),
        (
            "trees",
            [[9, 0.5], [9, 0.6], [9, np.nan]],
            [
                [0.56217650, 0.43782350],
                [0.14804720, 0.85195280],
                [0.56217650, 0.43782350],
            ],
        ),
    ],
)
def test_reference_models_give_the_published_outputs(
    name: str, rows: list[list[float]], expected: list[list[float]]
) -> None:
    model = ReferenceModel.decode(read(f"reference-{name}"))

    found = model.infer(np.array(rows, np.float32))

    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "expected"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            (
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                "34007208d5b887185865"
            ),
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            (
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                "9d201395faa4b61a96c8"
            ),
        ),
    ],
    ids=["RFC 5869 A.1", "RFC 5869 A.3"],
)
def test_hkdf_gives_the_published_vectors(
    key: str, salt: str, info: str, length: int, expected: str
) -> None:
    derived = hkdf_sha256(
        bytes.fromhex(key),
        info=bytes.fromhex(info),
        length=length,
        salt=bytes.fromhex(salt),
    )

    assert derived.hex() == expected
