# SPDX-License-Identifier: Apache-2.0
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
TOOLS = ("bash", "env", "cat", "cut", "dirname", "flock", "sha256sum")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What setup reads, in a folder whose name has a space."""
    folder = tmp_path / "a folder"
    for name in ("scripts/setup", "constraints/all.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with a shell's tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return str(folder)


def run_setup(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "setup"],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_python_it_names_what_to_install(
    checkout: Path, bare_path: str
) -> None:
    result = run_setup(checkout, bare_path)

    assert result.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13 with the venv module" in result.stderr
    assert "sudo apt install python3 python3-venv" in result.stderr
    assert not (checkout / ".venv").exists()


def test_an_up_to_date_environment_is_left_alone(
    checkout: Path, bare_path: str
) -> None:
    pins = (checkout / "constraints" / "all.txt").read_bytes()
    project = (checkout / "pyproject.toml").read_bytes()
    digest = hashlib.sha256(pins + project).hexdigest()
    place = hashlib.sha256(f"{checkout.resolve()}\n".encode()).hexdigest()[:8]
    stamp = checkout / ".venv" / f".stamp-{digest}-{place}"
    stamp.parent.mkdir()
    stamp.touch()

    result = run_setup(checkout, bare_path)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_pinned_file_names_a_package_index() -> None:
    for path in sorted((REPOSITORY / "constraints").glob("*.txt")):
        lines = path.read_text().splitlines()
        pins = [line for line in lines if line and line[0] not in "# "]
        assert pins, path
        assert all("==" in pin and pin.endswith("\\") for pin in pins), path
        assert not [line for line in lines if "://" in line or "--index" in line], path
