# SPDX-License-Identifier: Apache-2.0
"""Candidates on an earlier grid: what stays, what moves, and how well they compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

from converter.candidate import PlainQuantizer, Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError, ConvertUsageError
from converter.like import Earlier, LikeQuantizer
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes import open_engine
from edge_contract.golden import signal_to_noise_db
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.tflite_models import stack_model

SIZES = (12, 24, 16, 5)
VALUES = np.random.default_rng(2).normal(size=(80, 12)).astype("f4")
RECIPES = [
    Recipe("litert", "static", "minmax"),
    Recipe("litert", "static", "minmax", is_corrected=True),
    Recipe("litert", "static", "mse", per_channel=False),
    Recipe("litert", "dynamic"),
    Recipe("litert", "weight-only"),
]


def trained_on(content: bytes, share: float = 0.02) -> bytes:
    """Return the model after a light training: every weight moved a little."""
    random = np.random.default_rng(5)
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) >= 4:
            values = np.frombuffer(bytes(buffer.data), "<f4")
            moved = values * random.normal(1, share, values.shape).astype("<f4")
            buffer.data = np.frombuffer(moved.tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def ready(content: bytes) -> LitertQuantizer:
    quantizer = LitertQuantizer(normalise(content, source="m"))
    quantizer.calibrate(ArrayFrames(VALUES))
    return quantizer


@pytest.fixture(scope="module")
def old() -> LitertQuantizer:
    return ready(stack_model(SIZES))


@pytest.fixture(scope="module")
def new() -> LitertQuantizer:
    return ready(trained_on(stack_model(SIZES)))


def grids(content: bytes) -> list[tuple[list[float], list[int]]]:
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return [
        ([float(x) for x in one.scale], [int(x) for x in one.zeroPoint])
        for tensor in model.subgraphs[0].tensors
        if (one := tensor.quantization) is not None and one.scale is not None
    ]


def changed(before: bytes, after: bytes) -> int:
    assert len(before) == len(after)
    return int((np.frombuffer(before, "u1") != np.frombuffer(after, "u1")).sum())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.id)
def test_the_grid_stays_and_fewer_bytes_change(
    old: LitertQuantizer, new: LitertQuantizer, recipe: Recipe
) -> None:
    before, free = old.make(recipe), new.make(recipe)

    kept = new.freeze(free, before.content)

    assert grids(kept.content) == grids(before.content) != grids(free.content)
    assert changed(before.content, kept.content) < changed(before.content, free.content)
    expected = open_engine("litert", new.model.content).run(VALUES)
    for one, least_db in ((free, 20), (kept, 20)):
        found = open_engine("litert", one.content).run(VALUES)
        assert signal_to_noise_db(expected, found) > least_db


def test_the_same_model_comes_out_the_same(old: LitertQuantizer) -> None:
    made = old.make(RECIPES[0])
    assert old.freeze(made, made.content).content == made.content


def test_weights_that_outgrew_their_scale_clip(old: LitertQuantizer) -> None:
    large = ready(trained_on(stack_model(SIZES), share=3))
    before = old.make(RECIPES[3])
    kept = large.freeze(large.make(RECIPES[3]), before.content)
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(kept.content))
    stored = np.concatenate(
        [
            np.frombuffer(bytes(model.buffers[one.buffer].data), np.int8)
            for one in model.subgraphs[0].tensors
            if _is_weights(model, one)
        ]
    )
    assert (stored.min(), stored.max()) == (-127, 127)


def _is_weights(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return bool(tensor.type == 9 and data is not None and len(data))


def test_another_architecture_is_refused(
    old: LitertQuantizer, new: LitertQuantizer
) -> None:
    other = ready(stack_model((12, 24, 5)))
    for wrong in (other.make(RECIPES[0]), old.make(RECIPES[3])):
        with pytest.raises(ConvertQuantizeError, match="of another architecture"):
            new.freeze(new.make(RECIPES[0]), wrong.content)


def test_only_the_earlier_recipes_are_tried(
    old: LitertQuantizer, new: LitertQuantizer
) -> None:
    recipe = RECIPES[0]
    onnx = Recipe("onnxruntime", "dynamic")
    earlier = Earlier((recipe, onnx), {recipe.id: old.make(recipe).content}, VALUES)
    like = LikeQuantizer(new, earlier)

    assert like.recipes() == (Recipe("litert", "float32"), recipe)
    assert like.operators == ()
    assert grids(like.make(recipe).content) == grids(earlier.contents[recipe.id])
    assert like.make(like.recipes()[0]).content == new.make(like.recipes()[0]).content


def test_float_alone_has_no_grid(old: LitertQuantizer) -> None:
    plain = PlainQuantizer(old.model)
    made = plain.make(plain.recipes()[0])
    assert plain.freeze(made, b"") is made


def test_a_bundle_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.bundle"
    make_bundle(path, ModelRecipe())
    with pytest.raises(ConvertUsageError, match="expected the recipes of its variants"):
        Earlier.read(path)
