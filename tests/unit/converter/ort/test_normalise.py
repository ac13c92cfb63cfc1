# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converter.errors import (
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
)
from converter.loaders import open_source
from converter.ort.lower import lower, read_form
from converter.ort.normalise import normalise
from converter.runtimes import open_engine
from converter.tensors import TensorSpec
from edge_contract.steps.post import softmax
from tests.support.onnx_models import dense_onnx

RANDOM = np.random.default_rng(1)
WEIGHTS = RANDOM.normal(size=(3, 24)).astype("f4")
BIAS = RANDOM.normal(size=3).astype("f4")
FRAMES = RANDOM.normal(size=(20, 8, 3)).astype("f4")


def dense(*shape: int | str, **options: int) -> bytes:
    return dense_onnx(WEIGHTS, BIAS, shape or ("N", 8, 3), **options)  # type: ignore[arg-type]


def changed(content: bytes, change: str) -> bytes:
    model = onnx.load_from_string(content)
    graph = model.graph
    if change == "foreign":
        graph.node[0].domain = "com.example"
        graph.node[0].op_type = "Twirl"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
    if change == "two outputs":
        graph.output.append(helper.make_tensor_value_info("scores", 1, ("N", 3)))
    if change == "integers":
        graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
        cast = helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT)
        graph.node[0].input[0] = "cast"
        graph.node.insert(0, cast)
    if change == "external":
        graph.initializer[0].data_location = TensorProto.EXTERNAL
        entry = graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", "elsewhere.bin"
        graph.initializer[0].ClearField("raw_data")
    if change == "cycle":
        graph.node[0].input[0] = graph.node[1].output[0]
    return bytes(model.SerializeToString())


def test_the_batch_is_one_and_the_softmax_is_the_devices() -> None:
    model = normalise(dense(), source="m")
    assert model.input == TensorSpec("input", (1, 8, 3))
    assert model.output == TensorSpec("scores", (1, 3))
    assert (model.post, model.operators) == (("softmax",), ("Flatten", "Gemm"))
    raw = open_engine("onnxruntime", model.content).run(FRAMES)
    exact = FRAMES.reshape(20, -1) @ WEIGHTS.T + BIAS
    assert np.allclose(raw, exact, atol=1e-5)
    whole = open_engine("onnxruntime", dense(1, 8, 3), "plain").run(FRAMES)
    assert np.allclose(softmax(raw), whole, atol=1e-6)


def test_normalising_twice_changes_nothing() -> None:
    once = normalise(dense(), source="m")
    assert normalise(once.content, source="m").content == once.content


def test_nothing_that_varies_is_left() -> None:
    model = onnx.load_from_string(dense())
    model.doc_string, model.producer_version = "made on Monday", "7"
    model.metadata_props.add(key="host", value="mine")
    again = normalise(bytes(model.SerializeToString()), source="m")
    assert again.content == normalise(dense(), source="m").content


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 7), (21, 10), (22, 11)])
def test_the_form_is_lowered(opset: int, ir_version: int) -> None:
    content = dense(opset=opset, ir_version=ir_version)
    assert read_form(normalise(content, source="m").content) == (8, 17)


def test_an_operator_that_is_newer_keeps_its_form() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "gelu",
        [helper.make_tensor_value_info("x", 1, (1, 4))],
        [helper.make_tensor_value_info("y", 1, (1, 4))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    lowered = lower(model)
    assert (lowered.ir_version, lowered.opset_import[0].version) == (9, 20)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ConvertModelError, "found 0 bytes"),
        (b"not a model", ConvertModelError, "expected an ONNX model"),
        (dense()[:200], ConvertModelError, "expected an ONNX model"),
        (changed(dense(), "external"), ConvertModelError, "in another file"),
        (changed(dense(), "cycle"), ConvertModelError, "expected an ONNX model"),
        (changed(dense(), "foreign"), ConvertOperatorError, r"com\.example\.Twirl"),
        (changed(dense(), "two outputs"), ConvertShapeError, "one float32 output"),
        (changed(dense(), "integers"), ConvertShapeError, r"input \(INT64\)"),
        (dense(2, 8, 3), ConvertShapeError, "batch of one, found 2"),
        (dense("N", "T", 3), ConvertShapeError, r"after the batch, found \['T'\]"),
    ],
)
def test_what_cannot_be_used_is_refused(
    content: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        normalise(content, source="m")


def test_a_file_is_probed_and_runs_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(dense())
    with open_source(path) as source:
        assert (source.framework, source.why_not("onnxruntime")) == ("onnx", "")
        found = source.infer(FRAMES)
        assert source.export("onnxruntime") == dense()
    assert found.sum(axis=1) == pytest.approx(1)
    path.write_bytes(b"nothing of the kind")
    with open_source(path) as source, pytest.raises(ConvertModelError):
        normalise(source.export("onnxruntime"), source="m")


def test_altered_files_are_read_or_refused() -> None:
    content = dense()
    for position in range(0, len(content), 5):
        altered = bytearray(content)
        altered[position] ^= 0x55
        try:
            normalise(bytes(altered), source="altered")
        except (ConvertModelError, ConvertShapeError, ConvertOperatorError):
            continue
