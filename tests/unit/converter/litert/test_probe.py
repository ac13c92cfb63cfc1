# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from converter.errors import ConvertModelError, ConvertOperatorError
from converter.litert.normalise import normalise
from converter.litert.probe import probe
from converter.loaders import open_source
from tests.support.convert_inputs import model_bytes, with_custom_operator


def test_a_good_model_passes() -> None:
    probe(model_bytes(), source="m")


@pytest.mark.parametrize("content", [b"", b"hello", model_bytes()[:200]])
def test_what_is_no_model_is_refused_before_it_is_parsed(content: bytes) -> None:
    with pytest.raises(ConvertModelError, match="m: the runtime refuses this file"):
        probe(content, source="m")


def test_custom_operators_are_left_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "flex.tflite"
    path.write_bytes(with_custom_operator(model_bytes(), b"FlexErf"))
    with (
        open_source(path) as source,
        pytest.raises(ConvertOperatorError, match="found FlexErf"),
    ):
        normalise(source.export("litert"), source="flex")


@pytest.mark.benchdata
def test_the_runtimes_own_refusal_is_explained(benchdata: Path) -> None:
    content = (benchdata / "tflm_models" / "person_detect.tflite").read_bytes()
    with pytest.raises(ConvertModelError, match="quantized_dimension must be") as found:
        probe(content, source="person_detect.tflite")
    assert "quantize the float model anew" in found.value.next_step
