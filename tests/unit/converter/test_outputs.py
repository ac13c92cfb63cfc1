# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import outputs
from converter.data.dataset import open_dataset
from converter.data.rule import frame_rule
from converter.errors import ConvertDataError, ConvertShapeError
from converter.model import FloatModel
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LENGTH, rows, save

INPUT = TensorSpec("input", (1, LENGTH, FEATURES))


def model(shape: tuple[int, ...], post: tuple[str, ...] = ()) -> FloatModel:
    return FloatModel(b"", INPUT, TensorSpec("scores", shape), (), "litert", post)


RANDOM = np.random.default_rng(1)
LOGITS = RANDOM.normal(size=(50, 3)).astype(np.float32)
SHARES = np.abs(LOGITS) / np.abs(LOGITS).sum(axis=1, keepdims=True)
ONE = LOGITS[:, :1]
CHANCE = 1 / (1 + np.exp(-ONE))


@pytest.mark.parametrize(
    ("raw", "asked", "has_classes", "task", "post"),
    [
        (SHARES, None, False, "classification", []),
        (LOGITS, None, True, "classification", ["softmax"]),
        (LOGITS, None, False, "regression", []),
        (LOGITS, "classification", False, "classification", ["softmax"]),
        (SHARES, "regression", True, "regression", []),
        (ONE, None, True, "classification", ["sigmoid_pair"]),
        (CHANCE, None, True, "classification", ["pair"]),
        (CHANCE, None, False, "regression", []),
    ],
)
def test_outputs_and_labels_say_what_a_model_is(
    raw: np.ndarray, asked: Any, *, has_classes: bool, task: str, post: list[str]
) -> None:
    found = outputs.find_meaning(
        model((1, raw.shape[1])), raw, asked=asked, has_classes=has_classes
    )
    assert (found.task, [one["step"] for one in found.post]) == (task, post)
    classes = max(raw.shape[1], 2) if task == "classification" else 0
    assert found.classes == classes


def test_a_softmax_taken_off_the_model_makes_a_classifier() -> None:
    found = outputs.find_meaning(
        model((1, 3), ("softmax",)), LOGITS, asked=None, has_classes=False
    )
    assert (found.task, found.post) == ("classification", ({"step": "softmax"},))


def test_an_autoencoder_is_no_classifier() -> None:
    raw = RANDOM.random((4, 5, 6, 1), dtype=np.float32)
    autoencoder = model((1, 5, 6, 1))
    found = outputs.find_meaning(autoencoder, raw, asked=None, has_classes=False)
    assert found == outputs.Meaning("regression", (), 0)
    with pytest.raises(ConvertShapeError, match=r"expected shape \[1, K\]"):
        outputs.find_meaning(
            autoencoder, raw, asked="classification", has_classes=False
        )


def test_scores_that_do_not_sum_to_1_are_refused() -> None:
    with pytest.raises(ConvertShapeError, match="do not sum to 1"):
        outputs.find_meaning(model((1, 3)), SHARES / 2, asked=None, has_classes=True)


def test_names_come_from_the_command_the_file_or_numbers(tmp_path: Path) -> None:
    rule = frame_rule(INPUT, None, HOP)
    named = open_dataset(str(save(tmp_path / "a.npz", **rows())), rule)
    bare = open_dataset(str(save(tmp_path / "b.npz", x=rows()["x"])), rule)
    assert outputs.feature_names((), named, rule) == ("ax", "ay", "az")
    assert outputs.feature_names(("a", "b", "c"), named, rule) == ("a", "b", "c")
    assert outputs.feature_names((), bare, rule) == ("f0", "f1", "f2")
    assert outputs.label_names((), bare, 3) == ("0", "1", "2")
    with pytest.raises(ConvertDataError, match="labels: expected 3 different names"):
        outputs.label_names(("a", "b"), bare, 3)
    with pytest.raises(ConvertDataError, match="features: expected 3 different names"):
        outputs.feature_names(("a", "a", "b"), bare, rule)


def test_triads_are_complete_axes_of_one_stem() -> None:
    names = ("ax", "ay", "az", "gyro_x", "gyro_y", "light", "gyro_z", "mx", "my")
    assert outputs.triads(names) == ((0, 1, 2), (3, 4, 6))
