# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from converter.candidate import Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.litert.ranges import track_activations
from converter.runtimes import open_engine
from converter.runtimes.litert import Kernels
from edge_contract.golden import signal_to_noise_db
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes
from tests.support.tflite_models import stack_model

FRAMES = np.random.default_rng(1).normal(size=(60, LENGTH, FEATURES)).astype("f4")
VALUES = np.random.default_rng(2).normal(size=(80, 12)).astype("f4")
STATIC = Recipe("litert", "static", "minmax")


def ready(content: bytes, frames: np.ndarray) -> LitertQuantizer:
    quantizer = LitertQuantizer(normalise(content, source="m"))
    quantizer.calibrate(ArrayFrames(frames))
    return quantizer


@pytest.fixture(scope="module")
def dense() -> LitertQuantizer:
    return ready(model_bytes(), FRAMES)


@pytest.fixture(scope="module")
def stack() -> LitertQuantizer:
    return ready(stack_model((12, 24, 16, 5)), VALUES)


def sqnr(quantizer: LitertQuantizer, recipe: Recipe, frames: np.ndarray) -> float:
    expected = open_engine("litert", quantizer.model.content).run(frames)
    found = open_engine("litert", quantizer.make(recipe).content).run(frames)
    return signal_to_noise_db(expected, found)


def test_every_recipe_follows_float_with_float_inputs_and_outputs(
    stack: LitertQuantizer,
) -> None:
    recipes = stack.recipes()
    assert recipes[0] == Recipe("litert", "float32")
    assert len({one.id for one in recipes}) == len(recipes) == 16
    assert {one.ranges for one in recipes} == {None, "minmax", "mse", "p99.9", "p99.99"}
    sizes = {}
    for one in recipes:
        made = stack.make(one)
        interpreter = Interpreter(model_content=made.content)
        ends = interpreter.get_input_details() + interpreter.get_output_details()
        assert [end["dtype"] for end in ends] == [np.float32, np.float32]
        least = {"float32": 900, "float16": 55}.get(one.scheme, 20)
        assert sqnr(stack, one, VALUES) > least
        sizes[one.scheme] = len(made.content)
        assert (made.output_step > 0) == (one.scheme == "static")
    assert sizes["float16"] < sizes["float32"]


def test_operators_that_are_kept_float_are(stack: LitertQuantizer) -> None:
    assert len(stack.operators) == 3
    for name in stack.operators:
        made = stack.make(replace(STATIC, kept_float=(name,)))
        assert made.float_operators == (name,)
        kept = replace(STATIC, kept_float=tuple(sorted(set(stack.operators) - {name})))
        assert len(stack.make(kept).float_operators) == 2
    last = stack.operators[-1]
    assert stack.make(replace(STATIC, kept_float=(last,))).output_step == 0.0
    with pytest.raises(ConvertQuantizeError, match="left every tensor float"):
        stack.make(replace(STATIC, kept_float=tuple(sorted(stack.operators))))


def test_one_dense_layer_is_an_operator_too(dense: LitertQuantizer) -> None:
    assert dense.operators == ("scores",)
    assert dense.model.post == ("softmax",)
    assert sqnr(dense, STATIC, FRAMES) > 35


def test_what_was_not_calibrated_cannot_be_static() -> None:
    quantizer = LitertQuantizer(normalise(model_bytes(), source="m"))
    with pytest.raises(ConvertQuantizeError, match="the quantizer refuses"):
        quantizer.make(STATIC)


def test_kernels_agree_on_every_range(stack: LitertQuantizer) -> None:
    found = [
        track_activations(stack.model, ArrayFrames(VALUES), kernels)
        for kernels in (Kernels.BUILTIN, Kernels.REFERENCE)
    ]
    assert set(found[0]) == set(found[1])
    for name, one in found[0].items():
        for method in ("minmax", "p99.99", "p99.9", "mse"):
            assert one.range(method) == found[1][name].range(method)


_BUILD = """
import hashlib, sys
import numpy as np
from tests.unit.converter.litert.test_quantizer import ready, stack_model, VALUES
quantizer = ready(stack_model((12, 24, 16, 5)), VALUES)
for one in quantizer.recipes():
    print(hashlib.sha256(quantizer.make(one).content).hexdigest())
"""


@pytest.mark.slow
def test_bytes_do_not_depend_on_hash_seeds() -> None:
    outputs = set()
    for seed in ("0", "1", "7"):
        done = subprocess.run(
            ["env", f"PYTHONHASHSEED={seed}", sys.executable, "-c", _BUILD],
            capture_output=True,
            check=True,
            text=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 16
