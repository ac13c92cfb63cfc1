# SPDX-License-Identifier: Apache-2.0
"""configs/edge-agent.service, as systemd itself reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_home import ROOT

UNIT = ROOT / "configs" / "edge-agent.service"


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    """Have systemd check a unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def test_systemd_takes_the_unit_without_a_word() -> None:
    done = verify(UNIT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_would_say_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / UNIT.name
    wrong.write_text(UNIT.read_text().replace("WatchdogSec=60", "WatchdogSec=soon"))

    assert "ignoring: soon" in verify(wrong).stderr
