# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer, recipe

from converter.candidate import Candidate, Recipe
from converter.compat import check
from converter.data.frames import ArrayFrames
from converter.errors import ConvertModelError, ConvertSideError
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.litert.versions import find_lies, parse, read_needs, set_versions
from converter.measure import sqnr_of
from converter.profiles import load_profile
from converter.runtimes import open_engine
from converter.runtimes.side import prepare, run_there
from tests.support.tflite_models import stack_model

FRAMES = np.random.default_rng(2).normal(size=(60, 64)).astype("f4")
MODEL = normalise(stack_model((64, 48, 32, 24)), source="m")
OLD = load_profile("armv7l-tflite214")


@pytest.fixture(scope="module")
def side() -> None:
    try:
        prepare()
    except ConvertSideError as error:
        pytest.skip(f"tflite-runtime 2.14 cannot be installed here: {error}")


def ready() -> LitertQuantizer:
    work = LitertQuantizer(MODEL)
    work.calibrate(ArrayFrames(FRAMES))
    return work


def made(recipe: Recipe) -> Candidate:
    return ready().make(recipe)


def todays_recipe() -> bytes:
    """Return what the quantizer's recommended recipe gives, untouched by us."""
    work = quantizer.Quantizer(MODEL.content)
    work.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    return bytes(work.quantize(enable_progress_report=False).quantized_model)


def versions(content: bytes) -> dict[str, int]:
    return {one.operator: one.version for one in read_needs(content)}


def test_versions_follow_the_types() -> None:
    assert versions(MODEL.content) == {"FULLY_CONNECTED": 1}
    static = versions(made(Recipe("litert", "static", "minmax")).content)
    assert static == {"FULLY_CONNECTED": 4, "QUANTIZE": 1, "DEQUANTIZE": 2}
    dynamic = made(Recipe("litert", "dynamic"))
    assert versions(dynamic.content) == {"FULLY_CONNECTED": 12}
    per_tensor = made(Recipe("litert", "dynamic", per_channel=False))
    assert versions(per_tensor.content)["FULLY_CONNECTED"] in {3, 9}
    half = versions(made(Recipe("litert", "float16")).content)
    assert half["DEQUANTIZE"] == 3


def test_one_operator_with_two_kinds_of_types_gets_two_versions() -> None:
    names = ready().operators
    mixed = made(Recipe("litert", "static", "minmax", kept_float=names[:1]))
    found = [one for one in read_needs(mixed.content) if "FULLY" in one.operator]
    assert [one.version for one in found] == [1, 4]
    assert np.isfinite(open_engine("litert", mixed.content).run(FRAMES)).all()


def test_setting_versions_twice_changes_nothing_and_writes_the_runtime() -> None:
    once = set_versions(todays_recipe())
    assert set_versions(once) == once
    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(once))
    (entry,) = parsed.metadata
    text = bytes(parsed.buffers[entry.buffer].data).rstrip(b"\0")
    assert text == b"2.17.0"


def test_a_version_that_lies_is_found() -> None:
    content = todays_recipe()
    assert find_lies(content) == ("FULLY_CONNECTED: version 1, its types need 12",)
    assert find_lies(set_versions(content)) == ()


def test_versions_compare_as_numbers() -> None:
    assert parse("2.9.0") < parse("2.14") < parse("2.17.0rc1".removesuffix("rc1"))


def test_a_device_with_the_old_runtime_gets_no_scale_a_channel() -> None:
    dynamic = made(Recipe("litert", "dynamic"))
    found = check(dynamic, OLD)
    assert found.runtime == "tflite-runtime"
    assert found.objections == (
        "FULLY_CONNECTED version 12 needs 2.17.0, tflite-runtime 2.14.0 lacks it",
    )
    assert check(dynamic, None).objections == ()
    static = check(made(Recipe("litert", "static", "minmax")), OLD)
    assert (static.objections, static.min_runtime) == ((), "1.14.0")


@pytest.mark.slow
@pytest.mark.usefixtures("side")
def test_the_old_runtime_computes_garbage_until_the_version_is_right() -> None:
    expected = open_engine("litert", MODEL.content).run(FRAMES)
    silent = todays_recipe()
    assert sqnr_of(open_engine("litert", silent).run(FRAMES), expected) > 30
    assert sqnr_of(run_there(silent, FRAMES), expected) < 10
    with pytest.raises(ConvertModelError, match="'FULLY_CONNECTED' version '12'"):
        run_there(set_versions(silent), FRAMES)
    for recipe_there in (
        Recipe("litert", "static", "minmax"),
        Recipe("litert", "dynamic", per_channel=False),
    ):
        content = made(recipe_there).content
        assert sqnr_of(run_there(content, FRAMES), expected) > 25


@pytest.mark.slow
@pytest.mark.usefixtures("side")
def test_what_is_no_model_is_refused_there() -> None:
    with pytest.raises(ConvertModelError, match="refuses the model"):
        run_there(b"no model at all", FRAMES)


def test_without_a_place_to_keep_it_the_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConvertSideError, match="set XDG_CACHE_HOME"):
        prepare()
