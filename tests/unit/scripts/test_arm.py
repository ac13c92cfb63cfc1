# SPDX-License-Identifier: Apache-2.0
import subprocess
from pathlib import Path

import pytest

from tests.support.arm_userland import SCRIPT


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/bin", "XDG_CACHE_HOME": str(cache)},
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "arm: expected make, run or folder"),
        (("make", "riscv64"), "arm: riscv64: expected arm64 or armhf"),
        (("boot", "arm64"), "arm: boot: expected make, run or folder"),
    ],
)
def test_a_mistake_is_told_with_the_next_step(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    done = run(*arguments, cache=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith(told)
    assert "\nNext: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_userland_is_kept_outside_of_the_repository(tmp_path: Path) -> None:
    done = run("folder", "armhf", cache=tmp_path)

    assert done.stdout == f"{tmp_path}/edgeloop/arm/armhf\n"
