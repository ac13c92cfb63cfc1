# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.errors import (
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
)
from converter.litert.normalise import normalise
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import TensorSpec
from edge_contract.steps.post import softmax
from tests.support.convert_inputs import (
    FEATURES,
    LENGTH,
    model_bytes,
    with_custom_operator,
)


def test_an_old_file_gets_both_codes_a_signature_and_no_description() -> None:
    model = normalise(model_bytes(), source="old")
    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(model.content))

    assert model.operators == ("FULLY_CONNECTED",)
    assert model.post == ("softmax",)
    assert [one.builtinCode for one in parsed.operatorCodes] == [9]
    assert [one.deprecatedBuiltinCode for one in parsed.operatorCodes] == [9]
    assert len(parsed.subgraphs[0].tensors) == 4
    assert [one.signatureKey for one in parsed.signatureDefs] == [b"serving_default"]
    assert parsed.description == b"edge-convert"
    assert model.input == TensorSpec("input", (1, LENGTH, FEATURES))
    assert model.output == TensorSpec("probabilities", (1, FEATURES))


def test_normalising_twice_changes_nothing() -> None:
    once = normalise(model_bytes(), source="m")
    assert normalise(once.content, source="m").content == once.content


def test_a_softmax_at_the_end_becomes_the_devices_step() -> None:
    frames = np.random.default_rng(1).normal(size=(20, LENGTH, FEATURES))
    inputs = frames.astype(np.float32)
    model = normalise(model_bytes(), source="m")
    found = softmax(LitertEngine(model.content).run(inputs))
    assert np.allclose(found, LitertEngine(model_bytes()).run(inputs), atol=1e-6)


def test_the_outputs_stay_the_same() -> None:
    frames = np.random.default_rng(1).normal(size=(20, LENGTH, FEATURES))
    inputs = frames.astype(np.float32)
    content = model_bytes(softmax=False)
    normal = normalise(content, source="m").content
    for kernels in Kernels:
        before = LitertEngine(content, kernels).run(inputs)
        assert np.array_equal(LitertEngine(normal, kernels).run(inputs), before)


def test_expand_dims_becomes_the_reshape_that_it_is() -> None:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes()))
    graph = model.subgraphs[0]
    axis, wide, code = schema.TensorT(), schema.TensorT(), schema.OperatorCodeT()
    axis.name, axis.shape, axis.type = "axis", [], schema.TensorType.INT32
    axis.buffer = len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array([1], np.int32).tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    wide.name, wide.shape = "wide", [1, 1, LENGTH, FEATURES]
    wide.type = schema.TensorType.FLOAT32
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.EXPAND_DIMS
    code.version = 1
    model.operatorCodes.append(code)
    graph.tensors += [axis, wide]
    expand = schema.OperatorT()
    expand.opcodeIndex, expand.inputs = 2, [0, len(graph.tensors) - 2]
    expand.outputs = [len(graph.tensors) - 1]
    graph.operators.insert(0, expand)
    graph.operators[1].inputs = [len(graph.tensors) - 1, 1, 2]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    found = normalise(content, source="m")

    assert found.operators == ("RESHAPE", "FULLY_CONNECTED")
    inputs = np.random.default_rng(1).normal(size=(5, LENGTH, FEATURES))
    frames = inputs.astype(np.float32)
    assert np.array_equal(
        softmax(LitertEngine(found.content).run(frames)),
        softmax(LitertEngine(model_bytes(softmax=False)).run(frames)),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 not a model",
        model_bytes()[: len(model_bytes()) // 2],
        model_bytes()[:4] + b"TFL3" + bytes(500),
        b"\xff\xff\xff\x7fTFL3" + model_bytes()[8:],
    ],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ConvertModelError, match="Next: "):
        normalise(content, source="broken.tflite")


def test_a_flex_operator_is_refused_by_name() -> None:
    content = with_custom_operator(model_bytes(), b"FlexErf")
    with pytest.raises(ConvertOperatorError, match="found FlexErf"):
        normalise(content, source="m")


def test_a_quantized_model_is_refused() -> None:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes()))
    tensor = model.subgraphs[0].tensors[1]
    tensor.type = schema.TensorType.FLOAT16
    buffer = model.buffers[tensor.buffer]
    buffer.data = buffer.data[: len(buffer.data) // 2]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    with pytest.raises(ConvertModelError, match="1 quantized tensors"):
        normalise(content, source="m")


def test_a_dynamic_size_after_the_batch_is_refused() -> None:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes()))
    model.subgraphs[0].tensors[0].shapeSignature = [-1, -1, FEATURES]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    with pytest.raises(ConvertShapeError, match="fixed sizes after the batch"):
        normalise(content, source="m")
