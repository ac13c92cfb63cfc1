# SPDX-License-Identifier: Apache-2.0
"""Only ``EdgeError`` leaves a decoder, whatever the bytes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_contract.bundle import Bundle, write_bundle
from edge_contract.canonical import decode_cbor, decode_json, encode_cbor, encode_json
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal, unseal
from edge_contract.errors import EdgeError
from edge_contract.evidence import decode_feedback
from edge_contract.golden import GoldenVectors
from edge_contract.manifest import Manifest
from edge_contract.messages import (
    decode_announce,
    decode_down,
    decode_state,
    decode_up,
)
from edge_contract.operations import (
    BUCKETS,
    Operations,
    decode_operations,
    encode_operations,
)
from edge_contract.profile import ReferenceProfile
from edge_contract.reference_model import ReferenceModel
from edge_contract.topics import DOWN_KINDS, UP_KINDS, parse_topic
from edge_contract.update_policy import UpdatePolicy, parse_policy
from edge_contract.window_report import WindowReport
from tests.conformance.samples import (
    evidence_report,
    full_profile,
    private_report,
    reference_linear,
    reference_trees,
)
from tests.support.contract_samples import make_profile, make_release, make_statistics

KEY = bytes(32)
PROFILE = make_profile()
Decoder = Callable[[bytes], object]


def decode_window(data: bytes) -> object:
    report = WindowReport.decode(data)
    return report.operations(), report.feedback(), report.statistics(PROFILE)


def decode_and_run(data: bytes) -> object:
    """What the decoder lets pass must run, and end."""
    model = ReferenceModel.decode(data)
    with np.errstate(all="ignore"):
        return model.infer(np.zeros((1, model.inputs), np.float32))


DECODERS: dict[str, Decoder] = {
    "cbor": lambda data: decode_cbor(data, max_bytes=4096),
    "json": lambda data: decode_json(data, max_bytes=4096),
    "envelope": lambda data: unseal(data, key=KEY, aad="t"),
    "profile": ReferenceProfile.decode,
    "golden": GoldenVectors.decode,
    "manifest": Manifest.decode,
    "enrolment": Enrolment.from_json,
    "reference model": decode_and_run,
    "state": decode_state,
    "announce": decode_announce,
    "window statistics": decode_window,
    "operations": decode_operations,
    "feedback": decode_feedback,
    **{f"up {kind}": partial(decode_up, kind) for kind in UP_KINDS},
    **{f"down {kind}": partial(decode_down, kind) for kind in DOWN_KINDS},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.integers(0, 25) | st.text(max_size=6), inner, max_size=12)
    ),
    max_leaves=30,
)
SEEDS = [
    PROFILE.encoded,
    make_release()[0].encoded,
    encode_cbor({1: b"12345678"}),
    reference_linear().encode(),
    reference_trees().encode(),
    full_profile().encoded,
    evidence_report().encode(),
    private_report().encode(),
]


def survive(decoder: Decoder, data: bytes) -> None:
    with suppress(EdgeError):
        decoder(data)


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=200))
def test_random_bytes(name: str, data: bytes) -> None:
    survive(DECODERS[name], data)


@pytest.mark.parametrize("name", DECODERS)
@given(value=VALUES)
def test_well_formed_values_of_any_shape(name: str, value: object) -> None:
    try:
        data = encode_cbor(value)
    except EdgeError:
        return
    survive(DECODERS[name], data)


@given(value=VALUES)
def test_json_values_of_any_shape(value: object) -> None:
    try:
        data = encode_json(value)
    except EdgeError:
        return
    for name in ("json", "manifest", "enrolment"):
        survive(DECODERS[name], data)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=200)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 10**6),
)
def test_edited_real_bytes(
    name: str, seed: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for position, value in edits:
        data[position % len(data)] = value
    survive(DECODERS[name], bytes(data[: len(data) - cut % 3]))


@given(fields=st.dictionaries(st.sampled_from([1, 2, *range(10, 27)]), VALUES))
def test_window_reports_with_any_field_replaced(fields: dict[int, object]) -> None:
    statistics = make_statistics(PROFILE, 20)
    body: dict[int, object] = {
        1: bytes(8),
        2: 1,
        10: PROFILE.ref_id,
        11: bytes(8),
        12: 1,
        13: 1,
        14: 1,
        15: True,
        16: 20,
        17: 20,
        18: 0,
        20: statistics.counts.astype("u1").tobytes(),
        21: bytes(8 * len(PROFILE.features)),
    }
    try:
        data = encode_cbor(body | fields)
    except EdgeError:
        return
    survive(decode_window, data)


@settings(max_examples=300)
@given(
    name=st.integers(0, 7),
    edits=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=3),
    outputs=st.integers(0, 3),
)
def test_reference_trees_with_any_array_edited(
    name: int, edits: list[tuple[int, int]], outputs: int
) -> None:
    wire = decode_cbor(reference_trees().encode(), max_bytes=4096)
    array = bytearray(wire[6][name + 1])
    for position, value in edits:
        array[position % len(array)] = value
    wire[6][name + 1] = bytes(array)
    wire[6][0] = outputs or wire[6][0]
    survive(decode_and_run, encode_cbor(wire))


@given(
    latency=st.lists(st.integers(0, 2**40), min_size=BUCKETS, max_size=BUCKETS),
    numbers=st.tuples(*[st.none() | st.integers(0, 2**50)] * 4),
    temperature=st.none() | st.integers(-100, 1000),
    throttled=st.none() | st.booleans(),
)
def test_operations_survive_their_block(
    latency: list[int],
    numbers: tuple[int | None, ...],
    temperature: int | None,
    throttled: bool | None,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    queue, rss_kib, cpu_permille, disk_free_mib = numbers
    operations = Operations(
        np.array(latency, dtype=np.int64),
        7,
        queue=queue,
        rss_kib=rss_kib,
        cpu_permille=cpu_permille,
        temperature=temperature,
        is_throttled=throttled,
        disk_free_mib=disk_free_mib,
    )

    found = decode_operations(encode_operations(operations))

    for one in fields(operations):
        expected = getattr(operations, one.name)
        np.testing.assert_array_equal(getattr(found, one.name), expected)


@given(payload=st.binary(max_size=300), aad=st.text(max_size=40))
def test_envelopes_open_to_what_was_sealed(payload: bytes, aad: str) -> None:
    assert unseal(seal(payload, key=KEY, epoch=9, aad=aad), key=KEY, aad=aad) == payload


@given(st.text(max_size=60))
def test_topics_of_any_text(topic: str) -> None:
    with suppress(EdgeError):
        parse_topic(topic)


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6)), max_size=6)
)
def test_edited_bundles(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes]]
) -> None:
    path: Path = tmp_path_factory.mktemp("bundle") / "a.bundle"
    manifest, files = make_release()
    write_bundle(path, manifest, files)
    data = bytearray(path.read_bytes())
    for offset, value in edits:
        position = offset % len(data)
        data[position : position + len(value)] = value
    path.write_bytes(data)
    try:
        with Bundle.open(path) as bundle:
            bundle.check_files()
    except EdgeError:
        pass


POLICY_KEYS = st.sampled_from(
    ("windows", "urgent", "metered", "trial", "shadow", "days", "start", "inferences")
)
POLICIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just("22:30"),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(POLICY_KEYS, below, max_size=4)
    ),
    max_leaves=12,
)


@given(POLICIES)
def test_a_policy_is_read_or_refused(wire: object) -> None:
    with suppress(EdgeError):
        assert isinstance(parse_policy(wire), UpdatePolicy)
