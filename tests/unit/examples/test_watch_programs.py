# SPDX-License-Identifier: Apache-2.0
"""Commands fail loudly, and every process that was started is ended."""

import sys
from pathlib import Path

import pytest

from examples.watch.programs import DemoError, Process, run_program, wait_until

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")


def test_output_of_a_command_is_returned() -> None:
    assert run_program((sys.executable, "-c", "print('done')")) == "done\n"


def test_a_failing_command_speaks_for_itself() -> None:
    code = "import sys; print('the reason', file=sys.stderr); sys.exit(4)"
    with pytest.raises(DemoError, match=r"found 4:\nthe reason"):
        run_program((sys.executable, "-c", code))


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(DemoError, match=r"within 0 s"):
        run_program(SLEEPER, timeout_seconds=0.1)


def test_a_process_is_stopped_by_sigterm(tmp_path: Path) -> None:
    process = Process("sleeper", SLEEPER, tmp_path / "log")
    assert process.stop() == -15
    with pytest.raises(DemoError, match=r"sleeper ended with exit code -15"):
        process.check()


def test_a_process_is_killed_as_by_a_power_cut(tmp_path: Path) -> None:
    process = Process("sleeper", SLEEPER, tmp_path / "log")
    process.check()
    process.kill()
    assert process.stop() == -9


def test_waiting_ends_with_what_was_found() -> None:
    assert wait_until(lambda: "found", what="it", timeout_seconds=5.0) == "found"


def test_waiting_has_an_end() -> None:
    with pytest.raises(DemoError, match=r"expected the answer within 0 s"):
        wait_until(lambda: None, what="the answer", timeout_seconds=0.0)


def test_waiting_ends_when_a_guarded_process_does(tmp_path: Path) -> None:
    process = Process("sleeper", SLEEPER, tmp_path / "log")
    process.kill()
    with pytest.raises(DemoError, match=r"sleeper ended"):
        wait_until(lambda: None, what="it", timeout_seconds=60.0, guards=[process])
