# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from converter import outputs
from converter.data.dataset import frame_rule, load_dataset
from converter.errors import ConvertDataError, ConvertShapeError
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LENGTH, rows, save

OUTPUT = TensorSpec("scores", (1, 3))
INPUT = TensorSpec("input", (1, LENGTH, FEATURES))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4, 2), (1, 2000)])
def test_only_class_scores_are_built(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConvertShapeError, match=r"expected shape \[1, K\]"):
        outputs.class_count(TensorSpec("scores", shape))


def test_probabilities_need_no_step_and_logits_a_softmax() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [1, 0, 0]], dtype=np.float32)
    logits, halves = probabilities * np.float32(4), probabilities * np.float32(0.5)
    assert outputs.post_steps(probabilities, OUTPUT) == ()
    assert outputs.post_steps(logits, OUTPUT) == ({"step": "softmax"},)
    with pytest.raises(ConvertShapeError, match="do not sum to 1"):
        outputs.post_steps(halves, OUTPUT)


def test_names_come_from_the_command_the_file_or_numbers(tmp_path: Path) -> None:
    rule = frame_rule(INPUT, None, HOP)
    named = load_dataset(save(tmp_path / "a.npz", **rows()), rule)
    bare = load_dataset(save(tmp_path / "b.npz", x=rows()["x"]), rule)
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
