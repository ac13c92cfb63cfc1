# SPDX-License-Identifier: Apache-2.0
"""Any altered ONNX file gives files for other runtimes, or an error of ours.

As in ``test_model_files``, altered files are read by a process of their own; where the
runtime's C++ dies, the probe that every source goes through must have refused the file.
"""

import random
import subprocess
import sys

import onnx
import pytest
from onnx import NodeProto

from converter.errors import ConvertModelError
from converter.ort.probe import probe
from tests.support.onnx_graphs import chain, node, normal, onnx_bytes

EXAMPLES = 900
_READER = """
import sys
from converter.errors import ConvertError
from converter.loaders.reach import Reach
from converter.model import RUNTIMES
from tests.fuzz.test_emitters import altered
reached = 0
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    print(number, flush=True)
    found = Reach(altered(number), "onnx", "altered")
    for runtime in RUNTIMES:
        try:
            reached += not found.why_not(runtime)
        except ConvertError:
            pass
print(reached)
"""
_ML = {"domain": "ai.onnx.ml"}


def models() -> list[bytes]:
    """Return a network, a linear model and a tree, with most kinds of attributes."""
    convolution = chain(
        ("Conv", "w b", {"pads": [1, 1, 1, 1], "strides": [2, 2], "dilations": [1, 1]}),
        ("BatchNormalization", "s s s v", {"epsilon": 0.001}),
        ("Clip", "zero six", {}),
        ("AveragePool", "", {"kernel_shape": [2, 2], "ceil_mode": 0}),
        ("Flatten", "", {"axis": 1}),
        ("Gemm", "m", {"alpha": 0.5, "transB": 0}),
        ("Softmax", "", {"axis": 1}),
    )
    weights = {
        "w": normal(4, 2, 3, 3),
        "b": normal(4),
        "s": normal(4),
        "v": normal(4) ** 2,
        "zero": normal()[()] * 0,
        "six": normal()[()] * 0 + 6,
        "m": normal(36, 3),
    }
    linear = chain(
        ("Scaler", "", {"offset": [1.0, 2, 3], "scale": [1.0, 2, 3], **_ML}),
        ("LinearRegressor", "", {"coefficients": [1.0, 2, 3], "targets": 1, **_ML}),
    )
    tree = node(
        "TreeEnsembleRegressor",
        "x",
        "y",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[1, 0, 0],
        nodes_values=[0.5, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
        n_targets=1,
        **_ML,
    )
    return [
        onnx_bytes(convolution, (1, 2, 8, 8), weights),
        onnx_bytes(linear, (1, 3)),
        onnx_bytes([tree], (1, 3)),
    ]


MODELS = models()


def altered(number: int) -> bytes:
    """Return one of the models with a few bytes, or a few attributes, changed."""
    chance = random.Random(number)  # noqa: S311 - examples, not secrets
    content = MODELS[number % len(MODELS)]
    if chance.random() < 0.3:
        changed = bytearray(content)
        for _ in range(chance.randint(0, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)
    model = onnx.load_from_string(content)
    for _ in range(chance.randint(1, 3)):
        _change(chance.choice(model.graph.node), chance)
    return bytes(model.SerializeToString())


def _change(one: NodeProto, chance: random.Random) -> None:
    """Change, empty or remove an attribute, or take another input."""
    if not one.attribute or chance.random() < 0.2:
        place = chance.randrange(len(one.input))
        one.input[place] = chance.choice([*one.input, "x", ""])
        return
    known = chance.choice(one.attribute)
    if chance.random() < 0.25:
        one.attribute.remove(known)
    elif known.ints:
        known.ints[chance.randrange(len(known.ints))] = chance.choice([-1, 0, 1, 2, 99])
    elif known.floats:
        del known.floats[chance.randrange(len(known.floats)) :]
    elif known.strings:
        place = chance.randrange(len(known.strings))
        known.strings[place] = chance.choice([b"LEAF", b"BRANCH_LT", b"\xff"])
    else:
        known.i, known.f = chance.choice([-1, 0, 2, 99]), chance.choice([0.0, 1e38])


@pytest.mark.slow
def test_an_altered_model_is_emitted_or_refused() -> None:
    start, crashes, reached = 0, 0, 0
    while start < EXAMPLES:
        done = subprocess.run(
            [sys.executable, "-c", _READER, str(start), str(EXAMPLES)],
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode == 0:
            reached = int(done.stdout.split()[-1])
            break
        assert done.returncode < 0, done.stderr
        crashed = int(done.stdout.split()[-1])
        with pytest.raises(ConvertModelError, match="crashes on this file"):
            probe(altered(crashed), source="altered")
        start, crashes = crashed + 1, crashes + 1
    assert crashes < EXAMPLES / 10
    assert reached > EXAMPLES / 10
