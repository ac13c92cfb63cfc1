# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from converter.cli import main
from converter.diff import diff_bundles
from tests.support.bundles import ModelRecipe, make_bundle


def bundles(folder: Path, *recipes: ModelRecipe) -> list[Path]:
    paths = [folder / f"{index}.bundle" for index in range(len(recipes))]
    for path, recipe in zip(paths, recipes, strict=True):
        make_bundle(path, recipe)
    return paths


def test_a_bundle_is_the_same_as_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = bundles(tmp_path, ModelRecipe(), ModelRecipe())
    assert diff_bundles(first, second) == ()
    assert main(["diff", str(first), str(second)]) == 0
    assert capsys.readouterr().out == "the same release\n"


def test_what_is_different_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = bundles(
        tmp_path,
        ModelRecipe(),
        ModelRecipe(seed=2, profile_seed=1, labels=("low", "mid", "high")),
    )
    found = {one.what for one in diff_bundles(first, second)}
    assert {
        "output",
        "variant float32",
        "golden vectors",
        "feature f0",
        "feature f1",
    } <= found
    assert main(["diff", str(first), str(second), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["same"] is False
    features = [
        one for one in document["differences"] if one["what"].startswith("feature")
    ]
    assert all("other bins" in one["second"] for one in features)


def test_features_that_come_and_go_are_named(tmp_path: Path) -> None:
    first, second = bundles(
        tmp_path, ModelRecipe(observe="vector", features=2), ModelRecipe(features=3)
    )
    found = {one.what: (one.first, one.second) for one in diff_bundles(first, second)}
    assert found["feature f2"] == (None, "observed")
    assert found["observe"] == ("vector", "series")


def test_an_altered_bundle_is_refused(tmp_path: Path) -> None:
    first, second = bundles(tmp_path, ModelRecipe(), ModelRecipe(seed=1))
    content = bytearray(second.read_bytes())
    content[content.index(b"TFL3") + 200] ^= 1
    second.write_bytes(content)
    assert main(["diff", str(first), str(second)]) != 0
    assert main(["diff", str(first), str(tmp_path / "absent.bundle")]) == 2


def test_files_and_bundles_are_timed_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = bundles(tmp_path, ModelRecipe(), ModelRecipe(runtime="onnxruntime"))
    arguments = ["bench", *map(str, paths), "--rounds", "3", "--json"]
    assert main(arguments) == 0
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert [one["name"] for one in timings] == [
        "0.bundle: float32",
        "1.bundle: float32",
    ]
    assert all(0 < one["median_us"] <= one["p99_us"] for one in timings)
    assert main(arguments[:-1]) == 0
    assert "in turns" in capsys.readouterr().out


def test_what_cannot_be_timed_together_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = bundles(tmp_path, ModelRecipe(), ModelRecipe(features=3))
    assert main(["bench", *map(str, paths)]) == 2
    assert "one input shape" in capsys.readouterr().err
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    assert main(["bench", str(tmp_path / "d.npz")]) == 2
    assert main(["bench", str(tmp_path / "absent.tflite")]) == 2
