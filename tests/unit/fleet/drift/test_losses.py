# SPDX-License-Identifier: Apache-2.0
"""Labels, shadows and class counts that devices send, to verdicts on a model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from edge_contract.evidence import (
    Feedback,
    Shadow,
    decode_feedback,
    encode_feedback,
    merge_feedback,
)
from fleet.drift.documents import DriftDocuments
from fleet.drift.engine import DriftEngine
from fleet.drift.error_stream import ErrorStream, promised_errors
from fleet.drift.mixture import estimate_fleet_shift
from fleet.drift.parameters import DriftParameters
from fleet.store.engine import reading, writing
from fleet.store.tables import (
    drift_performance,
    presence,
    rollups,
    shadows,
    verdicts,
)
from fleet.store.windows import find_rollup
from tests.support.fleet_world import FleetWorld
from tests.support.labelled_fleet import CONFUSION, LabelledFleet

SECOND = 1_000_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LabelledFleet]:
    world = FleetWorld(tmp_path)
    yield LabelledFleet(world)
    world.engine.dispose()


def test_labels_and_shadows_are_summed_exactly_once(site: LabelledFleet) -> None:
    blocks = [site.labels(30), b"", site.labels(50)]
    shadow = Shadow(b"s" * 8, 64, 3)
    device = site.device()
    now_us = site.world.clock.now_us
    sealed = [
        device.window(
            seq, start_us=now_us, feedback_block=block, shadow=shadow, release=b"r" * 8
        )
        for seq, block in enumerate(blocks, 1)
    ]
    site.world.ingest(*sealed, sealed[0])
    site.world.ingest(sealed[2])

    expected = merge_feedback(decode_feedback(blocks[0]), decode_feedback(blocks[2]))
    with reading(site.world.engine) as connection:
        key = ("d0", site.profile.ref_id)
        total = find_rollup(connection, *key, level="all", bucket_us=0)
        hours = connection.execute(
            select(rollups.c.feedback).where(rollups.c.level == "hour")
        ).scalars()
        assert total is not None
        assert [total["feedback"]] == list(hours) == [encode_feedback(expected)]
        sums = connection.execute(select(shadows)).mappings().one()
    assert (sums["compared"], sums["disagreed"]) == (192, 9)
    assert (sums["digest8"], sums["shadow8"]) == (b"r" * 8, b"s" * 8)


def test_a_malformed_feedback_block_is_kept_apart(site: LabelledFleet) -> None:
    site.send(feedback_block=b"\x01\x02")
    none, one = np.zeros(16, dtype=np.int64), np.ones(16, dtype=np.int64)
    site.send(feedback_block=encode_feedback(Feedback(one, none))[:16] + b"\x02" * 16)

    assert site.open() == {}
    with reading(site.world.engine) as connection:
        key = ("d0", site.profile.ref_id)
        assert find_rollup(connection, *key, level="all", bucket_us=0) is None


def test_labels_as_promised_give_no_verdict(site: LabelledFleet) -> None:
    for number in range(150):
        site.send(f"d{number % 12}", feedback_block=site.labels(20))

    assert site.open() == {}
    with reading(site.world.engine) as connection:
        document = connection.execute(select(drift_performance.c.document)).scalar_one()
    assert document["labels"] == 3000
    assert document["evidence"] < 10
    assert document["missing"] == [
        "quantization: no float model runs beside the quantized one"
    ]


def test_accuracy_is_estimated_a_device_from_confidence_alone(
    site: LabelledFleet,
) -> None:
    for _ in range(5):
        site.send("d1")
        site.send("d2", classes=np.array([60, 60, 60, 60]))
    documents = DriftDocuments(
        DriftEngine(site.world.engine, site.world.clock), DriftParameters()
    )

    with reading(site.world.engine) as connection:
        usual = documents.read_device(connection, "d1")["accuracy"]
        surer = documents.read_device(connection, "d2")["accuracy"]

    assert usual["inferences"] == 320
    assert abs(usual["loss"]) < 0.03
    # All of its answers are in a bin of high confidence.
    assert surer["cbpe"] > usual["cbpe"] + 0.1
    assert not surer["is_material"]


def test_errors_beyond_confidence_are_concept_drift_over_a_kill(
    site: LabelledFleet,
) -> None:
    for number in range(60):
        site.send(f"d{number % 12}", feedback_block=site.labels(20))
    assert site.open() == {}
    for number in range(40):
        site.send(f"d{number % 12}", feedback_block=site.labels(20, lost=0.25))
    site.restart()

    found = site.open()

    assert [*found] == [("concept", "world")]
    verdict = found["concept", "world"]
    evidence = verdict["evidence"]
    assert verdict["device"] is None
    assert evidence["action"] == "retrain"
    assert evidence["facts"]["detectors"] == ["ADWIN", "HDDM_W"]
    # The change was 800 labels ago; the detectors saw it soon after.
    assert 500 < evidence["facts"]["changed_labels_ago"] <= 800
    assert 600 < evidence["facts"]["labels"] <= 1100
    # The rule for small fleets must not take it for one of its own.
    DriftEngine(site.world.engine, site.world.clock).tick()
    site.restart()
    assert [*site.open()] == [("concept", "world")]

    for number in range(200):
        site.send(f"d{number % 12}", feedback_block=site.labels(20))
    assert site.open() == {}


def test_one_device_that_errs_is_named(site: LabelledFleet) -> None:
    for number in range(240):
        name = f"d{number % 12}"
        lost = 0.4 if name == "d3" else -0.05
        site.send(name, feedback_block=site.labels(20, lost=lost))

    found = site.open()

    assert [*found] == [("concept", "d3")]
    assert (
        "edge-fleet drift labels d3" in found["concept", "d3"]["evidence"]["next_step"]
    )
    DriftEngine(site.world.engine, site.world.clock).tick()
    assert [*site.open()] == [("concept", "d3")]


def test_a_new_mix_of_classes_in_most_devices_is_a_label_shift(
    site: LabelledFleet,
) -> None:
    usual = np.array([25, 25, 21, 29])
    for name in (f"d{number}" for number in range(12)):
        site.send(name, classes=usual + site.random.integers(0, 3, 4))
    assert ("label_shift", "world") not in site.open()
    for number in range(36):
        site.send(f"d{number % 12}", classes=np.array([82, 18, 5, 7]))

    found = site.open()

    assert [*found] == [("label_shift", "world")]
    evidence = found["label_shift", "world"]["evidence"]
    assert evidence["confidence"] == "12 of 12 devices lean the same way"
    assert evidence["facts"]["classes"][0]["now"] > 0.5
    assert evidence["action"] == "swap reference"

    site.world.clock.now_us += 5 * 3600 * SECOND
    for name in (f"d{number}" for number in range(12)):
        site.send(name, classes=usual + site.random.integers(0, 3, 4))
    assert site.open() == {}


def test_few_devices_with_their_own_mix_are_no_shift_of_the_world() -> None:
    mixes = np.array([[90, 10, 0, 0]] * 7)
    assert estimate_fleet_shift(mixes, CONFUSION) is None
    some = np.array([[90, 10, 5, 5], [10, 90, 5, 5], [5, 5, 80, 20], [5, 5, 20, 80]])
    assert estimate_fleet_shift(np.repeat(some, 4, axis=0), CONFUSION) is None


@pytest.mark.parametrize(
    ("disagreed", "other", "expected"),
    [(6, "watch", [("quantization", "world")]), (1, "watch", []), (6, "other", [])],
)
def test_a_float_shadow_that_disagrees_is_quantization(
    site: LabelledFleet, disagreed: int, other: str, expected: list[tuple[str, str]]
) -> None:
    served = site.publish("watch", "int8", b"int8")
    shadow = site.publish(other, "float32", b"float")
    site.send()
    with writing(site.world.engine) as connection:
        connection.execute(update(presence).values(serving={"main": served.hex()}))
    for _ in range(30):
        site.send(release=served[:8], shadow=Shadow(shadow[:8], 64, disagreed))

    found = site.open()

    assert [*found] == expected
    if found:
        evidence = found["quantization", "world"]["evidence"]
        assert evidence["facts"] == {"compared": 1920, "disagreed": 180}
    # Another release serves: its predecessor's sums are no longer the model's.
    with writing(site.world.engine) as connection:
        connection.execute(update(presence).values(serving={"main": "ab" * 32}))
    assert site.open() == {}


def test_verdicts_end_when_nobody_uses_the_model_any_more(site: LabelledFleet) -> None:
    for number in range(40):
        site.send(f"d{number % 12}", feedback_block=site.labels(20, lost=0.25))
    assert [*site.open()] == [("concept", "world")]

    site.world.clock.now_us += 26 * 3600 * SECOND

    assert site.open() == {}
    with reading(site.world.engine) as connection:
        reason = connection.execute(select(verdicts.c.close_reason)).scalar_one()
    assert reason == "no device uses this model any more"


def test_a_reference_without_labels_promises_nothing() -> None:
    zeros = np.zeros(16, dtype=np.int64)
    stream = ErrorStream(promised_errors(zeros, zeros))
    some = np.full(16, 10, dtype=np.int64)

    for _ in range(50):
        stream.add(Feedback(some, zeros))
    for _ in range(50):
        stream.add(Feedback(some, some // 2))

    assert stream.known is None
    assert stream.errors == 50 * 80
    assert set(stream.changes) == {"ADWIN", "HDDM_W"}


def test_a_long_good_time_does_not_hide_a_bad_one() -> None:
    promises = np.full(16, 0.1)
    stream = ErrorStream(promises)
    labels = np.full(16, 10, dtype=np.int64)
    good, bad = labels // 10, (labels * 3) // 10

    for _ in range(3000):
        stream.add(Feedback(labels, good))
    for _ in range(5):
        stream.add(Feedback(labels, bad))

    known = stream.known
    assert known is not None
    assert known.e_value > 1e4
    assert known.labels == 5 * 160
