# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from converter.cli import main
from tests.support.convert_inputs import model_bytes, rows, save


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    model = tmp_path / "dense.tflite"
    model.write_bytes(model_bytes())
    data = save(tmp_path / "c.npz", **rows())
    out = tmp_path / "out.bundle"
    return ["build", str(model), "--calibration", str(data), "-o", str(out)]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run with ``--json``; return the exit code and the error's code or ''."""
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out).get("error", "")


def test_usage_errors_leave_with_2(
    base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*base, "--profile", "toaster"], capsys) == (2, "convert.usage")
    assert run([*base, "--max-drop", "150%"], capsys) == (2, "convert.usage")
    assert run([*base, "--metric", "f2"], capsys) == (2, "convert.usage")
    both = [*base, "--labels", "a,b,c", "--labels-file", base[1]]
    assert run(both, capsys) == (2, "convert.usage")
    for wrong in (
        ["--max-drop", "much"],
        ["--objective", "fame"],
        ["--budget", "soon"],
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*base, *wrong])


def test_failures_leave_with_1_and_no_output(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = save(tmp_path / "three.npz", x=rows()["x"][:16])
    key = tmp_path / "key.pem"
    key.write_text("not a key")
    cases = [
        ([base[0], str(tmp_path / "absent.keras"), *base[2:]], "convert.model"),
        ([*base[:3], str(empty), *base[4:]], "convert.data"),
        ([*base[:3], str(tmp_path / "absent.npz"), *base[4:]], "convert.data"),
        ([*base, "--name", "No Spaces!"], "manifest"),
        ([*base, "--sign-key", str(key)], "key.format"),
        ([*base, "--sign-key", str(tmp_path / "absent.pem")], "key.format"),
        ([*base[:4], "-o", str(tmp_path / "absent" / "out.bundle")], "convert.output"),
        ([*base, "--labels", "a,b"], "convert.data"),
        ([*base, "--hop", "9"], "convert.shape"),
    ]
    for arguments, expected in cases:
        assert run(arguments, capsys) == (1, expected)
    nowhere = str(tmp_path / "absent" / "out.bundle")
    assert main([*base[:4], "-o", nowhere]) == 1
    assert f"{nowhere}: expected a file path" in capsys.readouterr().err
    assert list(tmp_path.glob("*.bundle*")) == []
    assert list(tmp_path.glob(".*.part")) == []


def test_profiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["profiles"]
    assert [one["name"] for one in found] == [
        "aarch64-a53",
        "aarch64-a72",
        "aarch64-a76",
        "armv7l-tflite214",
        "jetson-cpu",
        "x86-avx2",
        "x86-vnni",
    ]
    assert main(["profiles"]) == 0
    assert "Cortex-A76" in capsys.readouterr().out
