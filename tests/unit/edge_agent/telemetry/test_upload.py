# SPDX-License-Identifier: Apache-2.0
"""Uploads: sealed for their path, within the budget, sent twice as the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import UploadError
from edge_agent.telemetry.upload import (
    MAX_CHUNK_BYTES,
    BudgetError,
    Samples,
    Upload,
    UploadRefusedError,
    encode_chunks,
)
from edge_contract.canonical import decode_cbor
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import unseal
from edge_contract.errors import EnvelopeMacError
from tests.support.faulty_server import Fault, FaultyServer, serve_files
from tests.support.manual_clock import ManualClock
from tests.support.randomness import seeded

ROWS = 120_000
DAY_US = 86_400_000_000
PLENTY = 64 << 20


def many_samples(rows: int = ROWS) -> Samples:
    x = np.random.default_rng(1).normal(size=(rows, 6)).astype(np.float32)
    names = tuple(f"recording-{n * 7 // rows}" for n in range(rows))
    labels = np.arange(rows, dtype=np.int32) % 7
    return Samples(x, names, labels, tuple("abcdef"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    with serve_files(tmp_path) as made:
        yield made


@pytest.fixture
def enrolment(server: FaultyServer) -> Enrolment:
    return Enrolment("default", "watch-1", bytes(32), 1, b"{}", "h", 1, server.url)


def upload(tmp_path: Path, enrolment: Enrolment, budget: int = PLENTY) -> Upload:
    return Upload(
        tmp_path,
        budget,
        enrolment,
        ManualClock(),
        sleep=lambda _: None,
        random=seeded(1),
    )


def test_chunks_hold_all_rows_in_order() -> None:
    samples = many_samples()
    chunks = encode_chunks(samples)
    assert len(chunks) == 4
    assert max(len(one) for one in chunks) + 50 <= MAX_CHUNK_BYTES
    bodies = [decode_cbor(one, max_bytes=MAX_CHUNK_BYTES) for one in chunks]
    x = b"".join(one[3] for one in bodies)
    assert x == samples.x.tobytes()
    assert samples.y is not None
    assert b"".join(one[5] for one in bodies) == samples.y.tobytes()
    names = [name for one in bodies for name, run in one[4] for _ in range(run)]
    assert tuple(names) == samples.recording
    assert {one[7] for one in bodies} == {4}
    assert [one[1][0] for one in bodies] == [len(one[3]) // 24 for one in bodies]


def test_labels_are_left_out_unless_asked_for() -> None:
    arrays = {
        "x": np.ones((2, 1), np.float32),
        "recording": np.array(["a", "b"]),
        "y": np.array([1, 2]),
    }
    assert Samples.from_arrays(arrays, labels=False).y is None
    (chunk,) = encode_chunks(Samples.from_arrays(arrays, labels=False))
    assert 5 not in decode_cbor(chunk, max_bytes=MAX_CHUNK_BYTES)
    assert Samples.from_arrays(arrays, labels=True).y is not None


def test_nothing_to_send_is_named() -> None:
    with pytest.raises(UploadError, match="expected rows"):
        encode_chunks(Samples(np.zeros((0, 6), np.float32), ()))


def test_a_request_is_answered_once(
    tmp_path: Path, server: FaultyServer, enrolment: Enrolment
) -> None:
    result = upload(tmp_path, enrolment).run("r1", many_samples())
    path = "/api/v1/devices/watch-1/samples/r1/"
    assert sorted(server.uploads) == [f"{path}{n}" for n in range(4)]
    assert (result.chunks, result.rows) == (4, ROWS)
    assert result.sent_bytes == sum(len(one) for one in server.uploads.values())
    body = server.uploads[f"{path}0"]
    key = enrolment.keys.up
    payload = unseal(body, key=key, aad=f"{path}0", max_bytes=MAX_CHUNK_BYTES)
    assert payload == encode_chunks(many_samples())[0]
    with pytest.raises(EnvelopeMacError):
        unseal(body, key=key, aad=f"{path}1", max_bytes=MAX_CHUNK_BYTES)
    assert upload(tmp_path, enrolment).run("r1", many_samples()).sent_bytes == 0


def test_the_budget_holds_before_anything_is_sent(
    tmp_path: Path, server: FaultyServer, enrolment: Enrolment
) -> None:
    with pytest.raises(BudgetError, match="expected at most 1000 bytes a day"):
        upload(tmp_path, enrolment, 1000).run("r1", many_samples())
    assert not server.uploads
    assert not (tmp_path / "upload.json").exists()


def test_failed_sends_are_charged_and_a_day_ends(
    tmp_path: Path, server: FaultyServer, enrolment: Enrolment
) -> None:
    samples = many_samples(1000)
    size = len(encode_chunks(samples)[0]) + 50
    server.faults.extend([Fault(status=503)])
    one = upload(tmp_path, enrolment, 2 * size + 10)
    assert one.run("r1", samples).sent_bytes >= 2 * size - 10
    with pytest.raises(BudgetError, match="spent"):
        one.run("r2", samples)
    assert isinstance(one.clock, ManualClock)
    one.clock.now_us += DAY_US
    assert one.run("r2", samples).chunks == 1


def test_a_refusal_is_final(
    tmp_path: Path, server: FaultyServer, enrolment: Enrolment
) -> None:
    server.faults.append(Fault(status=404))
    with pytest.raises(UploadRefusedError, match="status 404"):
        upload(tmp_path, enrolment).run("r1", many_samples(10))
    assert not server.uploads


def test_an_interrupted_request_goes_on(
    tmp_path: Path, server: FaultyServer, enrolment: Enrolment
) -> None:
    server.faults.extend([Fault(), Fault(status=403)])
    with pytest.raises(UploadRefusedError):
        upload(tmp_path, enrolment).run("r1", many_samples())
    first = dict(server.uploads)
    upload(tmp_path, enrolment).run("r1", many_samples())
    assert len(first) == 1
    assert len(server.uploads) == 4


@pytest.mark.parametrize("request_id", ["", "../x", "a/b", "x" * 65])
def test_request_ids_are_no_paths(
    tmp_path: Path, enrolment: Enrolment, request_id: str
) -> None:
    with pytest.raises(UploadError, match="expected an id"):
        upload(tmp_path, enrolment).run(request_id, many_samples(1))
