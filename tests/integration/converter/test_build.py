# SPDX-License-Identifier: Apache-2.0
"""Builds from a small LiteRT model through the command line, to a bundle on disk."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.cli import main
from converter.runtimes.litert import Kernels, LitertEngine
from edge_contract.bundle import Bundle
from edge_contract.golden import compare
from edge_contract.signing import generate_key
from tests.support.convert_inputs import (
    FEATURES,
    HOP,
    LENGTH,
    model_bytes,
    rows,
    save,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dense.tflite").write_bytes(model_bytes())
    save(tmp_path / "c.npz", **rows())
    save(tmp_path / "v.npz", **rows(recordings=60, seed=2))
    private, public = generate_key()
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    (tmp_path / "other.pub").write_bytes(generate_key()[1])
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "build",
        str(folder / "dense.tflite"),
        "--calibration",
        str(folder / "c.npz"),
        "--validation",
        str(folder / "v.npz"),
        "--hop",
        str(HOP),
        "--labels",
        "x,y,z",
        "-o",
        str(folder / "out.bundle"),
        *more,
    ]


def build(
    folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, Any]:
    assert main(arguments(folder, *more, "--json")) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_build_holds_what_it_reports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = build(folder, capsys, "--objective", "size", "--profile", "aarch64-a53")
    with Bundle.open(folder / "out.bundle") as bundle:
        bundle.check_files()
        manifest = bundle.manifest
        assert bundle.digest == report["digest"]
        assert manifest.ref_id == report["ref_id"] == bundle.profile.ref_id.hex()
        assert manifest.input.shape == (1, LENGTH, FEATURES)
        assert manifest.input.hop == HOP
        assert manifest.input.features == ("ax", "ay", "az")
        assert manifest.output.labels == ("x", "y", "z")
        assert dict(manifest.selected) == report["selected"]
        assert set(manifest.selected) == {"default", "aarch64-a53"}
        assert [one.dtype for one in manifest.variants] == ["float32", "int8"]
        assert manifest.task == "classification"
        figures = manifest.metrics["litert-float32"]
        assert figures["samples"] == str(report["samples"]) == str(60 * 19)
        assert f"{report['variants'][0]['metric_value']:.6f}" == figures["top1"]
        assert report["variants"][0]["latency_median_us"] > 0
        static = [
            one["latency_median_us"]
            for one in report["variants"]
            if re.fullmatch("litert-static-.*-channel", one["id"])
        ]
        # Ranges change no arithmetic: noise must not choose between them.
        assert len(static) > 1
        assert set(static) == {static[0]}
        keys = set(_keys(json.loads(bundle.manifest_bytes)))
        assert not [one for one in keys if "latency" in one or "host" in one]


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for one in value.values() for key in _keys(one))]
    if isinstance(value, list):
        return [key for one in value for key in _keys(one)]
    return []


def test_golden_vectors_pass_for_their_variant_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(folder, capsys)
    with Bundle.open(folder / "out.bundle") as bundle:
        golden = bundle.golden
        for one in bundle.manifest.variants:
            content = bundle.read(one.file)
            limit = golden.tolerances[one.id]
            for kernels in Kernels:
                found = LitertEngine(content, kernels).run(golden.inputs)
                assert compare(found, golden.outputs[one.id], limit).ok
            backwards = LitertEngine(content).run(golden.inputs)[::-1]
            assert not compare(backwards, golden.outputs[one.id], limit).ok


def test_few_samples_keep_float_and_say_what_it_takes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder / "v.npz", **rows(recordings=6, seed=2))
    report = build(folder, capsys, "--objective", "size")
    first, second, *_ = report["variants"]
    assert (first["chosen_for"], second["chosen_for"]) == (["default"], [])
    assert "more samples than 114" in second["reasons"]["default"]
    assert report["selected"] == {"default": "litert-float32"}


def test_data_without_labels_is_judged_by_agreement(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder / "v.npz", x=rows(recordings=60, seed=2)["x"])
    report = build(folder, capsys)
    assert report["metric"] == "agreement"
    assert report["variants"][0]["metric_value"] == 1.0
    assert main(arguments(folder, "--metric", "top1")) == 1


def test_logits_get_a_softmax_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dense.tflite").write_bytes(model_bytes(softmax=False))
    build(folder, capsys)
    with Bundle.open(folder / "out.bundle") as bundle:
        assert [dict(one) for one in bundle.manifest.post] == [{"step": "softmax"}]


def test_declared_steps_are_in_the_bundle_and_calibration_runs_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = build(folder, capsys, "--objective", "size")
    for name in ("c.npz", "v.npz"):
        with np.load(folder / name) as found:
            arrays = {key: found[key] for key in found.files}
        arrays["x"] = (arrays["x"] * 4 + 8).astype(np.float32)
        save(folder / name, **arrays)
    pre = "normalise mean=8,8,8 sd=4,4,4"
    post = ("smoothing method=majority results=5", "threshold at=0.6")
    told = ["--pre", pre, *(word for one in post for word in ("--post", one))]
    report = build(folder, capsys, "--objective", "size", *told)

    assert (
        report["variants"][0]["metric_value"] == (plain["variants"][0]["metric_value"])
    )
    assert main(["inspect", str(folder / "out.bundle")]) == 0
    shown = capsys.readouterr().out
    assert f"  before      {pre}\n" in shown
    assert f"  after       {post[0]}\n" in shown
    with Bundle.open(folder / "out.bundle") as bundle:
        manifest, profile = bundle.manifest, bundle.profile
        assert [dict(one) for one in manifest.pre] == [
            {"step": "normalise", "mean": "8,8,8", "sd": "4,4,4"}
        ]
        assert [one["step"] for one in manifest.post] == [
            "softmax",
            "smoothing",
            "threshold",
        ]
        # Statistics see what the source delivers, golden vectors what the model takes.
        with np.load(folder / "c.npz") as calibration:
            raw = calibration["x"]
        expected = [float(one) for one in raw.mean(axis=0)]
        assert [one.mean for one in profile.features] == pytest.approx(expected)
        assert abs(bundle.golden.inputs).max() < raw.max() / 2


def test_steps_that_do_not_lead_to_the_model_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "--pre", "normalise mean=1,2 sd=1,2")) == 1
    assert "expected 2 channels" in capsys.readouterr().err
    assert main(arguments(folder, "--pre", "blur by=3")) == 2
    assert "--pre: pre-processing: expected one of" in capsys.readouterr().err


def test_a_signature_verifies_under_its_key_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned = build(folder, capsys, "--objective", "size")["digest"]
    out = str(folder / "out.bundle")
    trust = ["--trust", str(folder / "key.pub")]
    assert main(["inspect", out]) == 0
    assert "signature   unsigned" in capsys.readouterr().out
    assert main(["inspect", out, *trust]) == 3

    key = str(folder / "key.pem")
    signed = build(folder, capsys, "--objective", "size", "--sign-key", key)
    assert (signed["signed"], signed["digest"]) == (True, unsigned)
    assert main(["inspect", out, *trust, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signature"].startswith("verified")
    assert main(["inspect", out, "--trust", str(folder / "other.pub")]) == 3
    assert main(["inspect", out]) == 0
    assert "not checked" in capsys.readouterr().out


def test_an_altered_bundle_is_refused_by_inspect(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(folder, capsys)
    path = folder / "out.bundle"
    content = path.read_bytes()
    altered = bytearray(content)
    altered[content.index(b"TFL3") + 200] ^= 1
    path.write_bytes(altered)
    assert main(["inspect", str(path)]) != 0
    path.write_bytes(content[:-100])
    assert main(["inspect", str(path)]) == 1
    assert main(["inspect", str(folder / "absent.bundle")]) == 2


def test_a_model_that_gives_nan_fails_the_gate_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dense.tflite").write_bytes(model_bytes(bias=float("inf")))
    assert main(arguments(folder, "--json")) == 4
    assert json.loads(capsys.readouterr().out)["error"] == "convert.parity"
    assert not (folder / "out.bundle").exists()


def test_the_table_names_the_choice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "--objective", "ram")) == 0
    text = capsys.readouterr().out
    assert "→ litert-" in text
    assert "MiB RAM" in text
    assert "float parity with litert" in text


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


def test_a_full_disk_leaves_the_old_bundle_and_nothing_half_written(
    folder: Path,
) -> None:
    (folder / "out.bundle").write_bytes(b"the old one")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "converter.cli", *arguments(folder)],
        capture_output=True,
        check=False,
        preexec_fn=limit_file_size,
        text=True,
    )
    assert done.returncode == 1
    assert "the bundle cannot be written: File too large. Next: " in done.stderr
    assert (folder / "out.bundle").read_bytes() == b"the old one"
    assert list(folder.glob(".*")) == []


def test_threads_and_hash_seeds_do_not_change_a_byte(folder: Path) -> None:
    digests = set()
    for seed, threads in (("0", "1"), ("7", "2")):
        subprocess.run(
            [
                "env",
                f"PYTHONHASHSEED={seed}",
                f"OMP_NUM_THREADS={threads}",
                sys.executable,
                "-m",
                "converter.cli",
                *arguments(folder, "--objective", "size"),
            ],
            capture_output=True,
            check=True,
        )
        digests.add((folder / "out.bundle").read_bytes())
    assert len(digests) == 1


def test_a_build_like_an_earlier_one_keeps_its_recipes_and_grids(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "--objective", "size")) == 0
    old = folder / "old.bundle"
    (folder / "out.bundle").rename(old)
    (folder / "dense.tflite").write_bytes(model_bytes(bias=0.26))

    assert main(arguments(folder, "--objective", "size", "--like", str(old))) == 0

    with Bundle.open(old) as before, Bundle.open(folder / "out.bundle") as after:
        assert after.manifest.lineage["recipes"] == before.manifest.lineage["recipes"]
        assert after.manifest.lineage["arguments"]["like"] == before.digest
        assert after.manifest.selected == before.manifest.selected
        assert np.array_equal(after.golden.inputs, before.golden.inputs)
        assert [one.bytes for one in after.manifest.variants] == [
            one.bytes for one in before.manifest.variants
        ]
    (folder / "dense.bundle").write_bytes(b"no bundle")
    capsys.readouterr()
    refused = main(arguments(folder, "--like", str(folder / "dense.bundle")))
    assert refused == 1
    assert "dense.bundle" in capsys.readouterr().err
