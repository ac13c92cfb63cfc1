# SPDX-License-Identifier: Apache-2.0
"""The agent on ARM, emulated: what x86 built is what a device computes and reports.

Each test runs in the userlands of scripts/arm, from the wheels of a device. Times here
say nothing about a device.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.harness.models import person_frames
from edge_contract.bundle import Bundle
from tests.support.agent_home import ROOT, AgentHome, await_value
from tests.support.arm_userland import DEVICE_PROFILES, Userland, refresh
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.convert_inputs import HOP, model_bytes, rows, save
from tests.support.fleet_process import ask_fleet
from tests.support.fleet_site import Site
from tests.support.foreign_bundle import wrap_file
from tests.support.onnx_models import dense_onnx
from tests.support.swarm import allow_seconds

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
PATIENCE_SECONDS = 200.0
PROFILES = ("--profile", "aarch64-a72,aarch64-a76,armv7l-tflite214")
SERIES = ("--hop", str(HOP), "--labels", "x,y,z", "--name", "toy")
# Each makes the runtimes choose other kernels; max is all that the emulator knows, less
# SME: QEMU 7.2 computes nonsense there, without a word (docs/reference/arm.md).
NAMED = {
    Userland("arm64", "cortex-a53"): "aarch64-a53",
    Userland("arm64", "cortex-a72"): "aarch64-a72",
    Userland("arm64", "cortex-a76"): "aarch64-a76",
    Userland("armhf", "cortex-a7"): "armv7l-tflite214",
}
EMULATED = [*NAMED, Userland("arm64", "max,sme=off"), Userland("armhf", "max")]


def name_of(value: object) -> str:
    return f"{value.arch}-{value.cpu}" if isinstance(value, Userland) else str(value)


@pytest.fixture(scope="module", autouse=True)
def agents() -> None:
    refresh()


@pytest.fixture(autouse=True)
def patience() -> None:
    allow_seconds(900)


@pytest.fixture(params=DEVICE_PROFILES)
def userland(request: pytest.FixtureRequest) -> Userland:
    return Userland(request.param)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the real converter, with a variant for either machine."""
    folder = tmp_path_factory.mktemp("dense")
    return convert(folder, "dense.tflite", model_bytes(), *SERIES, *PROFILES)


def convert(folder: Path, model: str, content: bytes, *options: str) -> Path:
    (folder / model).write_bytes(content)
    if not (folder / "v.npz").exists():
        save(folder / "c.npz", **rows())
        save(folder / "v.npz", **rows(recordings=60, seed=2))
    bundle = folder / f"{model}.bundle"
    data = ["--calibration", str(folder / "c.npz"), "--validation"]
    data += [str(folder / "v.npz"), "--objective", "size", "-o", str(bundle)]
    program = [sys.executable, "-m", "converter.cli", "build", str(folder / model)]
    done = subprocess.run(
        [*program, *data, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return bundle


def selftest(
    userland: Userland, bundle: Path, device_profile: str = "auto"
) -> dict[str, Any]:
    profile = f"--device-profile={device_profile}"
    done = userland.run("edge-agent", "selftest", str(bundle), "--json", profile)
    assert done.returncode == 0, done.stderr
    proof: dict[str, Any] = json.loads(done.stdout)
    return proof


def test_the_golden_bytes_of_the_contract_hold(userland: Userland) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-c", "/checks/pyproject.toml")
    tests = "/checks/tests/conformance/test_golden_bytes.py"
    done = userland.run("python3", "-m", "pytest", *options, tests)

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(("emulated", "expected"), NAMED.items(), ids=name_of)
def test_a_device_names_its_own_profile(emulated: Userland, expected: str) -> None:
    code = "from edge_agent.runtime.hardware import find_device_profile as find\n"
    done = emulated.run("python3", "-c", f"{code}print(find('auto'))")

    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("emulated", EMULATED, ids=name_of)
def test_golden_vectors_built_on_x86_hold(emulated: Userland, dense: Path) -> None:
    with Bundle.open(dense) as opened:
        runtimes = {one.runtime for one in opened.manifest.variants}
    assert runtimes >= {"litert", "tflite-runtime"}

    profile = {"arm64": "default", "armhf": "auto"}[emulated.arch]
    proof = selftest(emulated, dense, profile)
    runtime = {"arm64": "litert", "armhf": "tflite-runtime"}[emulated.arch]
    assert (proof["golden"]["ok"], proof["runtime"]) == (True, runtime)


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
def test_onnx_runtime_gives_the_golden_outputs(cpu: str, tmp_path: Path) -> None:
    weights = np.tile(np.eye(3), (1, 8)).astype(np.float32)
    model = dense_onnx(weights, np.zeros(3, np.float32), (1, 8, 3))
    options = (*SERIES, "--profile", "aarch64-a53,aarch64-a76")
    bundle = convert(tmp_path, "dense.onnx", model, *options)

    proof = selftest(Userland("arm64", cpu), bundle)
    assert (proof["golden"]["ok"], proof["runtime"]) == (True, "onnxruntime")


@pytest.mark.parametrize(
    ("arch", "runtime"), [("arm64", "litert"), ("armhf", "tflite-runtime")]
)
def test_a_wrong_output_is_told_there_too(
    arch: str, runtime: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "wrong.bundle"
    make_bundle(bundle, ModelRecipe(runtime=runtime, wrong_golden=True))  # type: ignore[arg-type]

    assert not selftest(Userland(arch), bundle)["golden"]["ok"]


@pytest.mark.benchdata
def test_the_person_detector_gives_its_golden_outputs(
    benchdata: Path, tmp_path: Path
) -> None:
    save(tmp_path / "c.npz", x=person_frames(32, seed=1))
    save(tmp_path / "v.npz", x=person_frames(96, seed=2))
    content = (benchdata / "mlperf_tiny" / "vww" / "vww_96_float.tflite").read_bytes()
    bundle = convert(
        tmp_path, "vww.tflite", content, *PROFILES, "--budget", "8s", "--max-drop", "5%"
    )

    for arch in DEVICE_PROFILES:
        assert selftest(Userland(arch), bundle)["golden"]["ok"]


@pytest.mark.benchdata
def test_the_keyword_spotter_gives_its_golden_outputs(
    benchdata: Path, tmp_path: Path
) -> None:
    content = (benchdata / "mlperf_tiny" / "kws" / "kws_ref_model.tflite").read_bytes()
    random = np.random.default_rng(3)
    frames = random.normal(0, 20, (8, 49, 10, 1)).astype(np.float32)
    bundle = tmp_path / "kws.bundle"
    wrap_file(bundle, content, frames)

    for arch in DEVICE_PROFILES:
        assert selftest(Userland(arch), bundle)["golden"]["ok"]


@pytest.fixture
def site(userland: Userland, tmp_path: Path) -> Iterator[Site]:
    """A server of this machine, and one device that is emulated."""
    agents = {userland.arch: userland.command("edge-agent")}
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack, agents, rate=20, patience=PATIENCE_SECONDS)


def test_statistics_and_updates_go_round(site: Site, tmp_path: Path) -> None:
    ((device, home),) = site.homes.items()
    save(home.folder / "source.npz", **rows())
    home.start()
    signed = ("--sign-key", str(site.builder_key))
    digests = []
    for number, bias in enumerate((0.25, 0.5)):
        options = (*SERIES, *PROFILES, *signed)
        bundle = convert(tmp_path, f"{number}.tflite", model_bytes(bias=bias), *options)
        with Bundle.open(bundle) as opened:
            digests.append(opened.digest)
        site.roll_out(bundle, "toy")
        site.await_serving(digests[-1])
    home.await_produced(home.read_counter() + 50)

    def committed() -> set[str]:
        shown = ask_fleet("device", "show", device, state=site.state)
        done = [one for one in shown["updates"] if one["state"] == "COMMITTED"]
        return {one["digest"] for one in done}

    await_value(committed, lambda found: found == set(digests), PATIENCE_SECONDS)
    found = check(home)
    site.check_books(device)
    assert [one for one in found.values() if not one["ok"]] == []
    assert f"device profile {DEVICE_PROFILES[device]}" in found["cpu"]["detail"]
    totals = site.totals(device)
    assert (totals["lost"], totals["failed"]) == (0, 0)
    assert totals["windows"] > 0


def check(home: AgentHome) -> dict[str, dict[str, Any]]:
    """What ``edge-agent check`` says there, by name."""
    done = subprocess.run(
        [*home.command, "check", "--config", str(home.config), "--json"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.stdout, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}
