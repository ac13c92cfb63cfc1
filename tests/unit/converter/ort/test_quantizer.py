# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.candidate import Recipe
from converter.compat import check
from converter.data.frames import ArrayFrames
from converter.errors import ConvertModelError, ConvertQuantizeError
from converter.measure import sqnr_of
from converter.ort.normalise import normalise
from converter.ort.quantizer import OnnxQuantizer
from converter.profiles import load_profile
from converter.runtimes import open_engine

FRAMES = np.random.default_rng(2).normal(size=(80, 12)).astype("f4")


def stack() -> bytes:
    random = np.random.default_rng(0)
    nodes, weights, given = [], [], "x"
    for layer, (before, after) in enumerate([(12, 24), (24, 16), (16, 5)]):
        values = random.normal(size=(after, before)) / np.sqrt(before)
        weights.append(numpy_helper.from_array(values.astype("f4"), f"w{layer}"))
        bias = random.normal(size=after).astype("f4")
        weights.append(numpy_helper.from_array(bias, f"b{layer}"))
        nodes.append(
            helper.make_node(
                "Gemm", [given, f"w{layer}", f"b{layer}"], [f"g{layer}"], transB=1
            )
        )
        given = f"g{layer}"
        if layer < 2:
            nodes.append(helper.make_node("Relu", [given], [f"r{layer}"]))
            given = f"r{layer}"
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 12))],
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, ("N", 5))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


def ready() -> OnnxQuantizer:
    quantizer = OnnxQuantizer(normalise(stack(), source="m"))
    quantizer.calibrate(ArrayFrames(FRAMES))
    return quantizer


@pytest.fixture(scope="module")
def quantizer() -> OnnxQuantizer:
    return ready()


def sqnr(quantizer: OnnxQuantizer, recipe: Recipe) -> float:
    made = quantizer.make(recipe)
    expected = open_engine("onnxruntime", quantizer.model.content).run(FRAMES)
    return sqnr_of(open_engine("onnxruntime", made.content).run(FRAMES), expected)


def test_every_recipe_follows_float(quantizer: OnnxQuantizer) -> None:
    recipes = quantizer.recipes()
    assert recipes[0].scheme == "float32"
    assert len({one.id for one in recipes}) == len(recipes) == 16
    for one in recipes:
        made = quantizer.make(one)
        least = {"float32": 900, "dynamic": 30}.get(one.scheme, 20)
        assert sqnr(quantizer, one) > least
        assert (made.output_step > 0) == (one.scheme == "static")
        assert made.float_operators == ()
    full = Recipe("onnxruntime", "static", "minmax", unsigned=True)
    assert sqnr(quantizer, full) > sqnr(quantizer, replace(full, reduce_range=True))


def test_operators_that_are_kept_float_are(quantizer: OnnxQuantizer) -> None:
    assert quantizer.operators == ("g0", "g1", "g2")
    static = Recipe("onnxruntime", "static", "minmax", unsigned=True)
    made = quantizer.make(replace(static, kept_float=("g1",)))
    assert made.float_operators == ("g1",)
    assert sqnr(quantizer, replace(static, kept_float=("g0", "g1"))) > 20
    with pytest.raises(ConvertQuantizeError, match="left every node float"):
        quantizer.make(replace(static, kept_float=quantizer.operators))


def test_the_tables_bar_what_a_device_cannot_run(quantizer: OnnxQuantizer) -> None:
    full = quantizer.make(Recipe("onnxruntime", "static", "minmax", unsigned=True))
    found = check(full, load_profile("x86-avx2"))
    assert found.objections == ("weights of 8 bits saturate without VNNI",)
    assert check(full, load_profile("x86-vnni")).objections == ()
    assert check(full, load_profile("jetson-cpu")).objections == ()
    assert check(full, load_profile("armv7l-tflite214")).objections == (
        "needs onnxruntime, found tflite-runtime, reference",
    )
    assert check(full, None).min_runtime == "1.16.0"


def test_kernel_sets_agree_and_what_is_no_model_is_refused(
    quantizer: OnnxQuantizer,
) -> None:
    content = quantizer.model.content
    plain = open_engine("onnxruntime", content, "plain").run(FRAMES)
    assert sqnr_of(open_engine("onnxruntime", content).run(FRAMES), plain) > 100
    with pytest.raises(ConvertModelError, match="the runtime refuses the model"):
        open_engine("onnxruntime", b"nothing")
    with pytest.raises(ConvertModelError, match="the runtime fails on an input"):
        open_engine("onnxruntime", content).infer(FRAMES[:1, :5])


_BUILD = """
import hashlib
from tests.unit.converter.ort.test_quantizer import ready
quantizer = ready()
for one in quantizer.recipes():
    print(hashlib.sha256(quantizer.make(one).content).hexdigest())
"""


@pytest.mark.slow
def test_bytes_do_not_depend_on_hash_seeds_or_threads() -> None:
    outputs = set()
    for seed, threads in (("0", "1"), ("1", "2"), ("7", "1")):
        done = subprocess.run(
            [
                "env",
                f"PYTHONHASHSEED={seed}",
                f"OMP_NUM_THREADS={threads}",
                sys.executable,
                "-c",
                _BUILD,
            ],
            capture_output=True,
            check=True,
            text=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
