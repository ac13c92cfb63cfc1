# SPDX-License-Identifier: Apache-2.0
"""Frames that are worth a look, who collects them, and marks on results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import RequestError
from edge_agent.flow import Result
from edge_agent.runtime.marks import Marks
from edge_agent.runtime.model import Model
from edge_agent.runtime.sampler import MAX_QUEUE, Picked, Sampler
from edge_agent.runtime.selection import Novelty, Wish, is_near_threshold
from edge_contract.profile import OutputReference
from tests.conformance.samples import real_profile
from tests.support.bundles import ModelRecipe
from tests.support.served_models import load_model
from tests.support.small_profile import small_profile

SECOND = 1_000_000
PROFILE = small_profile()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    found = load_model(tmp_path_factory.mktemp("model"), ModelRecipe())
    outputs = found.profile.outputs
    assert isinstance(outputs, OutputReference)
    edges = np.linspace(0.1, 0.9, 7, dtype=np.float32)
    profile = replace(found.profile, outputs=replace(outputs, margin_edges=edges))
    return replace(found, profile=profile)


def wish(select: str, frames: int = 4, seconds: int = 10) -> Wish:
    return Wish.parse(
        {"select": select, "frames": frames, "seconds": seconds, "reason": "drift"}
    )


def frame(value: float = 0.0) -> np.ndarray:
    return np.full((8, 2), value, dtype=np.float32)


def result(model: Model, number: int, *output: float) -> Result:
    values = np.array(output or (0.1, 0.8, 0.1), dtype=np.float32)
    return Result(f"n{number}", number * SECOND, model.digest, values, None)


def test_near_the_threshold_is_the_reference_s_lowest_eighth() -> None:
    # the lowest margin edge of the profile is 0.1
    assert is_near_threshold(np.array([0.2, 0.41, 0.39], np.float32), PROFILE)
    assert not is_near_threshold(np.array([0.2, 0.5, 0.3], np.float32), PROFILE)
    assert not is_near_threshold(np.array([1], np.float32), PROFILE)
    assert not is_near_threshold(np.array([1, 1], np.float32), real_profile())


@pytest.mark.parametrize(
    ("rows", "is_new"),
    [
        ([[0, 0]] * 4, False),
        ([[0, 0], [0, 0], [3, 0], [3, 0]], True),  # half outside of -2.2 to 2.2
        ([[0, 0], [0, 0], [0, 0], [9, 0]], False),
        ([[0, 0], [0, 0], [0, 0], [0, 90]], True),  # the mean is 22 sd away
        ([[np.nan, 0]] * 4, False),  # the missing rule's matter
    ],
)
def test_new_is_what_lies_far_from_the_reference(
    rows: list[list[float]], is_new: object
) -> None:
    assert Novelty(PROFILE).is_far(np.array(rows, np.float32)) is is_new


def test_a_category_that_the_reference_did_not_have_is_new() -> None:
    mode = replace(
        PROFILE.features[0],
        edges=np.zeros(0, np.float32),
        categories=np.array([1, 7], np.float32),
        counts=np.array([80, 80, 0]),
        low=1.0,
        high=7.0,
    )
    profile = replace(PROFILE, features=(mode, *PROFILE.features[1:]))
    novelty = Novelty(profile)

    assert novelty.is_far(np.array([[3, 0]], np.float32))
    assert not novelty.is_far(np.array([[7, 0]], np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"select": "best"},
        {"select": None},
        {"select": ["random"]},
        {"reason": ""},
        {"reason": 3},
        {"reason": "x" * 201},
        {"frames": 0},
        {"frames": 257},
        {"frames": True},
        {"seconds": "9"},
        {"seconds": 86_401},
    ],
    ids=str,
)
def test_malformed_wishes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Wish.parse({"select": "random", "reason": "drift", **change})


def collect(
    sampler: Sampler, model: Model, frames: list[np.ndarray], *output: float
) -> list[Picked] | None:
    for number, one in enumerate(frames):
        sampler.saw(one, result(model, number, *output))
        found = sampler.poll(number)
        if found is not None:
            return found
    return sampler.poll(10 * SECOND)


def test_new_frames_are_picked_until_there_are_enough(model: Model) -> None:
    sampler = Sampler()
    sampler.begin(wish("novelty", frames=3), model, 0)

    found = collect(sampler, model, [frame(), frame(90), frame(), *[frame(91)] * 5])

    assert found is not None
    assert [one.id for one in found] == ["n1", "n3", "n4"]
    assert not sampler.is_open


def test_frames_near_the_threshold_are_picked(model: Model) -> None:
    sampler = Sampler()
    sampler.begin(wish("near-threshold", frames=1), model, 0)

    found = collect(sampler, model, [frame()], 0.334, 0.333, 0.333)

    assert found is not None
    assert len(found) == 1


def test_frames_of_one_second_are_one(model: Model) -> None:
    sampler = Sampler()
    sampler.begin(wish("novelty"), model, 0)
    for number in range(5):
        one = replace(result(model, 0), time_us=number * 100_000)
        sampler.saw(frame(90), one)

    found = sampler.poll(10 * SECOND)

    assert found is not None
    assert len(found) == 1


def test_random_frames_are_drawn_from_the_whole_time(model: Model) -> None:
    ids: list[int] = []
    for _ in range(60):
        sampler = Sampler()
        sampler.begin(wish("random"), model, 0)
        found = collect(sampler, model, [frame()] * 40)
        assert found is not None
        assert len({one.id for one in found}) == 4
        ids += [int(one.id[1:]) for one in found]

    # 240 draws of 0 to 39: the mean is 19.5, its standard deviation 0.75
    assert abs(np.mean(ids) - 19.5) < 4


def test_a_copy_is_kept_and_another_model_s_frames_are_not(model: Model) -> None:
    sampler, data = Sampler(), frame(90)
    sampler.saw(data, result(model, 0))
    sampler.begin(wish("novelty"), model, 0)
    sampler.saw(data, replace(result(model, 1), digest="cd" * 32))
    sampler.saw(data, replace(result(model, 2), output=None))
    sampler.saw(data, result(model, 3))
    data[:] = 0

    found = sampler.poll(10 * SECOND)

    assert found is not None
    assert [one.id for one in found] == ["n3"]
    assert (found[0].data == 90).all()


def test_what_comes_too_fast_is_passed_over(model: Model) -> None:
    sampler = Sampler()
    sampler.begin(wish("random", frames=256), model, 0)
    for number in range(3 * MAX_QUEUE):
        sampler.saw(frame(), result(model, number))

    found = sampler.poll(10 * SECOND)

    assert found is not None
    assert len(found) == MAX_QUEUE


def test_one_request_at_a_time(model: Model) -> None:
    sampler = Sampler()
    sampler.begin(wish("random"), model, 0)

    with pytest.raises(RequestError, match="one request at a time"):
        sampler.begin(wish("random"), model, 0)
    assert sampler.poll(10 * SECOND - 1) is None
    assert sampler.poll(10 * SECOND) == []
    sampler.begin(wish("random"), model, 0)


def test_a_quarantine_marks_all_and_is_durable(tmp_path: Path, model: Model) -> None:
    Marks(tmp_path).set_quarantine("ax is stuck")

    marks, told = Marks(tmp_path), result(model, 0)
    marks.mark(frame(), told, told)
    assert (marks.quarantine, told.marks) == ("ax is stuck", ("quarantined",))
    marks.set_quarantine(None)
    told = result(model, 1)
    marks.mark(frame(), told, told)
    assert (Marks(tmp_path).quarantine, told.marks) == (None, ())


def test_a_damaged_quarantine_is_one(tmp_path: Path) -> None:
    (tmp_path / "quarantine.json").write_bytes(b"{")

    assert Marks(tmp_path).quarantine == "the state of the quarantine is damaged"


def test_as_many_answers_as_wanted_get_the_mark(tmp_path: Path, model: Model) -> None:
    marks = Marks(tmp_path)
    marks.want_labels(wish("near-threshold", frames=2), model, 0)
    found = []
    for number, output in enumerate([(0.1, 0.8, 0.1)] + [(0.334, 0.333, 0.333)] * 4):
        told = result(model, number, *output)
        marks.mark(frame(), told, told)
        found.append(told.marks)

    wanted = ("label-wanted",)
    assert found == [(), wanted, wanted, (), ()]
    marks.want_labels(wish("near-threshold", frames=2), model, 0)
    marks.settle(10 * SECOND)
    assert marks.labels_wanted == 0
