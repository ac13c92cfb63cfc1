# SPDX-License-Identifier: Apache-2.0
import cbor2
import pytest

from edge_contract.envelope import OVERHEAD_BYTES, read_epoch, seal, unseal
from edge_contract.errors import EnvelopeFormatError, EnvelopeMacError
from edge_contract.keys import DeviceKeys, derive_device_key

KEY = bytes(range(32))
TOPIC = "edge/1/default/watch-3/up/window"


def sealed(payload: bytes = b"payload") -> bytes:
    return seal(payload, key=KEY, epoch=7, aad=TOPIC)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 60_000])
def test_round_trip_at_each_length_form(length: int) -> None:
    payload = bytes(length)
    data = sealed(payload)

    assert unseal(data, key=KEY, aad=TOPIC) == payload
    assert read_epoch(data) == 7
    assert len(data) - length <= OVERHEAD_BYTES


def test_it_is_a_cose_mac0_for_any_cbor_reader() -> None:
    protected, unprotected, payload, tag = cbor2.loads(sealed())

    assert cbor2.loads(protected) == {1: 5}
    assert unprotected == {4: b"\x00\x07"}
    assert payload == b"payload"
    assert len(tag) == 32


def unseal_by_epoch(data: bytes) -> bytes:
    """As a receiver does: the epoch that the envelope names selects the key."""
    key = KEY if read_epoch(data) == 7 else bytes(len(KEY))
    return unseal(data, key=key, aad=TOPIC)


def test_an_unchanged_envelope_opens() -> None:
    assert unseal_by_epoch(sealed()) == b"payload"


@pytest.mark.parametrize("position", range(len(sealed())))
def test_every_flipped_byte_is_refused(position: int) -> None:
    data = bytearray(sealed())
    data[position] ^= 1

    with pytest.raises((EnvelopeFormatError, EnvelopeMacError)):
        unseal_by_epoch(bytes(data))


@pytest.mark.parametrize("length", range(len(sealed())))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises((EnvelopeFormatError, EnvelopeMacError)):
        unseal(sealed()[:length], key=KEY, aad=TOPIC)


def test_a_message_moved_to_another_topic_does_not_open() -> None:
    with pytest.raises(EnvelopeMacError):
        unseal(sealed(), key=KEY, aad="edge/1/default/watch-4/up/window")


def test_the_other_direction_has_another_key() -> None:
    keys = DeviceKeys.from_device_key(derive_device_key(KEY, "watch-3", 1), 1)

    with pytest.raises(EnvelopeMacError):
        unseal(seal(b"x", key=keys.up, epoch=1, aad=TOPIC), key=keys.down, aad=TOPIC)


def test_too_long_is_refused() -> None:
    with pytest.raises(EnvelopeFormatError, match="at most 100 bytes"):
        unseal(sealed(bytes(200)), key=KEY, aad=TOPIC, max_bytes=100)


def test_keys_differ_by_device_and_epoch_and_stay_out_of_repr() -> None:
    keys = {
        derive_device_key(KEY, device, epoch)
        for device in ("a", "b", "a/1")
        for epoch in (1, 2, 11)
    }
    device_keys = DeviceKeys.from_device_key(KEY, 1)

    assert len(keys) == 9
    assert repr(device_keys) == "DeviceKeys(epoch=1)"
