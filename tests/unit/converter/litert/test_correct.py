# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.candidate import Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError
from converter.litert.correct import Means, corrected, float_means
from converter.litert.normalise import normalise, pack
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes import open_engine
from converter.tensors import Float32, Float64
from tests.support.tflite_models import stack_model

# All of one sign, so that rounded weights shift every mean.
RANDOM = np.random.default_rng(3)
VALUES = (2 + RANDOM.normal(size=(300, 12)) / 2).astype("f4")
SCHEMES = ("static", "dynamic")


@pytest.fixture(scope="module")
def work() -> LitertQuantizer:
    quantizer = LitertQuantizer(normalise(stack_model((12, 24, 16, 5)), source="m"))
    quantizer.calibrate(ArrayFrames(VALUES[:100]))
    return quantizer


def recipe(scheme: Any, *, is_corrected: bool = False) -> Recipe:
    plain = Recipe("litert", scheme, "minmax" if scheme == "static" else None)
    return replace(plain, is_corrected=is_corrected)


def shifts(work: LitertQuantizer, content: bytes) -> Float64:
    """Return how far the mean of each output is off, on frames not seen before."""
    expected = open_engine("litert", work.model.content).run(VALUES[100:])
    found = open_engine("litert", content).run(VALUES[100:])
    off: Float64 = (found - expected).mean(axis=0, dtype=np.float64)
    return off


def parsed(content: bytes) -> Any:
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_means_come_back_at_no_cost(work: LitertQuantizer, scheme: str) -> None:
    plain = work.make(recipe(scheme))
    better = work.make(recipe(scheme, is_corrected=True))
    before = np.abs(shifts(work, plain.content)).max()
    after = np.abs(shifts(work, better.content)).max()
    assert after < before / 2
    assert len(better.content) == len(plain.content)
    kinds = [one.opcodeIndex for one in parsed(plain.content).subgraphs[0].operators]
    found = parsed(better.content).subgraphs[0]
    assert [one.opcodeIndex for one in found.operators] == kinds


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_biases_change(work: LitertQuantizer, scheme: str) -> None:
    plain = parsed(work.make(recipe(scheme)).content)
    better = parsed(work.make(recipe(scheme, is_corrected=True)).content)
    biases = {int(one.inputs[2]) for one in _dense(plain)}
    for index, tensor in enumerate(plain.subgraphs[0].tensors):
        same = np.array_equal(_data(plain, index), _data(better, index))
        assert same or index in biases, tensor.name
    assert not all(
        np.array_equal(_data(plain, one), _data(better, one)) for one in biases
    )


def _dense(model: Any) -> list[Any]:
    codes = [one.builtinCode for one in model.operatorCodes]
    dense = schema.BuiltinOperator.FULLY_CONNECTED
    operators = model.subgraphs[0].operators
    return [one for one in operators if codes[one.opcodeIndex] == dense]


def _data(model: Any, index: int) -> Any:
    return model.buffers[model.subgraphs[0].tensors[index].buffer].data


def test_a_buffer_that_two_tensors_share_is_not_changed_for_both(
    work: LitertQuantizer,
) -> None:
    model = parsed(work.make(recipe("static")).content)
    graph = model.subgraphs[0]
    first = graph.tensors[_dense(model)[0].inputs[2]]
    twin = schema.TensorT()
    twin.name, twin.shape, twin.type = b"twin", list(first.shape), first.type
    twin.buffer = first.buffer
    graph.tensors.append(twin)
    before = bytes(model.buffers[first.buffer].data)
    found = parsed(corrected(pack(model), work._plain.means))
    tensors = found.subgraphs[0].tensors
    assert bytes(found.buffers[tensors[-1].buffer].data) == before
    bias = tensors[_dense(found)[0].inputs[2]]
    assert bytes(found.buffers[bias.buffer].data) != before


def test_what_cannot_be_corrected_says_so(work: LitertQuantizer) -> None:
    content = work.make(recipe("static")).content
    with pytest.raises(ConvertQuantizeError, match="no int8 operator has a bias"):
        corrected(content, Means(VALUES[:4], {}))
    fresh = LitertQuantizer(work.model)
    with pytest.raises(ConvertQuantizeError, match="no frames were given"):
        fresh.make(recipe("dynamic", is_corrected=True))
    model = parsed(content)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Mine"
    with pytest.raises(ConvertQuantizeError, match="does not run alone"):
        corrected(pack(model), work._plain.means)


def test_means_are_those_of_the_float_model(work: LitertQuantizer) -> None:
    means = float_means(work.model.content, ArrayFrames(VALUES[:7]))
    np.testing.assert_array_equal(means.frames, VALUES[:7])
    outputs = open_engine("litert", work.model.content).run(VALUES[:7])
    np.testing.assert_allclose(means.by_name["dense2"], outputs.mean(0), rtol=1e-5)
    assert set(means.by_name) == {"dense0", "dense1", "dense2"}


def test_few_frames_are_taken_of_a_large_model() -> None:
    wide = stack_model((1024, 4096, 4))
    content = normalise(wide, source="m").content
    frames: Float32 = RANDOM.normal(size=(80, 1024)).astype("f4")
    assert len(float_means(content, ArrayFrames(frames)).frames) == 63


def test_an_output_that_is_not_finite_is_named(work: LitertQuantizer) -> None:
    content = work.make(recipe("dynamic")).content
    endless = np.full((4, 12), np.inf, dtype=np.float32)
    with pytest.raises(ConvertQuantizeError, match="is not finite"):
        corrected(content, Means(endless, work._plain.means.by_name))
