# SPDX-License-Identifier: Apache-2.0
"""The probe: a real child that crashes, hangs, takes too much, or is not trusted."""

import sys
from pathlib import Path

import pytest

from edge_agent.daemon.loading import MAX_TRIES, BootLoopError, Loader, LoadRules
from edge_agent.errors import UpdateTrustError
from edge_agent.probe import (
    Limits,
    Proof,
    SelfTestError,
    run_selftest,
    selftest_command,
)
from edge_contract.signing import generate_key
from tests.support.bundles import ModelRecipe, damage_model, make_bundle

MIB = 1024**2
LIMITS = Limits(memory_bytes=256 * MIB)
# One byte of the test model's flatbuffer: the length of a dimension, which becomes so
# large that the runtime asks for many gigabytes.
GREEDY = (759, 127)


def probe(path: Path, limits: Limits = LIMITS, *more: str) -> Proof:
    command = selftest_command(path, device_profile="auto", threads=1, limits=limits)
    return run_selftest([*command, *more], limits)


def test_a_good_release_is_proved(tmp_path: Path) -> None:
    digest = make_bundle(tmp_path / "a.bundle")
    proof = probe(tmp_path / "a.bundle")

    assert (proof.digest, proof.variant, proof.runtime) == (digest, "float32", "litert")
    assert proof.golden.ok


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import ctypes; ctypes.string_at(0)", "died of SIGSEGV: it crashed in the"),
        ("import os; os.kill(os.getpid(), 4)", "died of SIGILL: it crashed in the run"),
        ("import os; os.kill(os.getpid(), 9)", "died of SIGKILL: killed: the kernel"),
        ("import os; os.abort()", "died of SIGABRT: it gave up"),
        (
            "import os; os.write(2, b'std::bad_alloc'); os.abort()",
            "it needs more memory than the 268435456 bytes",
        ),
        ("import sys; sys.exit(7)", "found exit code 7"),
        ("print('[')", "expected a result, found exit code 0"),
        ("print('[]')", "expected a result, found exit code 0"),
    ],
)
def test_every_end_of_the_child_is_an_answer(script: str, message: str) -> None:
    with pytest.raises(SelfTestError) as caught:
        run_selftest([sys.executable, "-c", script], LIMITS)

    assert message in caught.value.message


def test_a_hang_is_ended() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(SelfTestError, match=r"hung: expected an answer within 0\.5 s"):
        run_selftest(sleep, Limits(timeout_seconds=0.5))


def test_a_loop_without_end_runs_out_of_processor_time() -> None:
    script = (
        "from edge_agent.probe import Limits, limit_self\n"
        "limit_self(Limits(cpu_seconds=1))\nwhile True: pass"
    )
    with pytest.raises(SelfTestError, match="SIGXCPU: it used more processor"):
        run_selftest([sys.executable, "-c", script], LIMITS)


def test_a_model_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "good.bundle")
    damage_model(tmp_path / "good.bundle", tmp_path / "greedy.bundle", *GREEDY)

    with pytest.raises(SelfTestError, match="it may take 268435456 bytes of memory"):
        probe(tmp_path / "greedy.bundle")


def test_python_memory_is_limited_too() -> None:
    script = (
        "from edge_agent.probe import Limits, limit_self\n"
        "limit_self(Limits(memory_bytes=64 << 20))\nbytearray(128 << 20)"
    )
    with pytest.raises(SelfTestError, match="MemoryError"):
        run_selftest([sys.executable, "-c", script], LIMITS)


def test_wrong_golden_outputs_are_told_apart_from_crashes(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a.bundle", ModelRecipe(wrong_golden=True))

    with pytest.raises(SelfTestError, match="expected the golden outputs, found"):
        probe(tmp_path / "a.bundle")


def test_trust_is_asked_for_in_the_child(tmp_path: Path) -> None:
    (private, public), (_, other) = generate_key(), generate_key()
    path = tmp_path / "a.bundle"
    make_bundle(path, sign_key=private)
    (tmp_path / "builder.pub").write_bytes(public)
    (tmp_path / "other.pub").write_bytes(other)

    assert probe(path, LIMITS, f"--trust={tmp_path / 'builder.pub'}").golden.ok
    with pytest.raises(UpdateTrustError):
        probe(path, LIMITS, f"--trust={tmp_path / 'other.pub'}")
    make_bundle(path)
    with pytest.raises(UpdateTrustError, match="it is unsigned"):
        probe(path, LIMITS, f"--trust={tmp_path / 'builder.pub'}")


class Counting:
    """A probe's command that leaves a mark each time."""

    def __init__(self, folder: Path) -> None:
        self.marks = folder / "marks"
        self.marks.mkdir()

    def command(self, path: Path) -> list[str]:
        (self.marks / str(len(list(self.marks.iterdir())))).touch()
        return selftest_command(path, device_profile="auto", threads=1, limits=LIMITS)

    @property
    def count(self) -> int:
        return len(list(self.marks.iterdir()))


def make_loader(folder: Path, counting: Counting, threads: int = 1) -> Loader:
    return Loader(folder, LoadRules(threads, "auto", LIMITS, counting.command))


def test_what_has_passed_is_not_probed_again_by_the_next_start(tmp_path: Path) -> None:
    path, counting = tmp_path / "a.bundle", Counting(tmp_path)
    digest = make_bundle(path)
    for _ in range(2):
        loader = make_loader(tmp_path, counting)
        loader.load(path, digest)
        loader.settled()
    assert counting.count == 1

    make_loader(tmp_path, counting, threads=2).load(path, digest)
    assert counting.count == 2
    (tmp_path / "proofs.json").write_bytes(b"[[")
    make_loader(tmp_path, counting).load(path, digest)
    assert counting.count == 3


def test_a_release_that_the_agent_dies_of_is_tried_three_times(tmp_path: Path) -> None:
    path, counting = tmp_path / "a.bundle", Counting(tmp_path)
    digest = make_bundle(path)
    for _ in range(MAX_TRIES):  # each a start that never came to ``settled``
        make_loader(tmp_path, counting).load(path, digest)
    with pytest.raises(BootLoopError, match="the agent died 3 times with it"):
        make_loader(tmp_path, counting).load(path, digest)

    loader = make_loader(tmp_path, counting)
    loader.load(path, digest, is_last_hope=True)
    loader.settled()
    make_loader(tmp_path, counting).load(path, digest)


def test_a_crash_leaves_no_mark_of_success(tmp_path: Path) -> None:
    make_bundle(tmp_path / "good.bundle")
    path = tmp_path / "greedy.bundle"
    digest = damage_model(tmp_path / "good.bundle", path, *GREEDY)
    counting = Counting(tmp_path)
    for expected in (1, 2):
        with pytest.raises(SelfTestError):
            make_loader(tmp_path, counting).load(path, digest)
        assert counting.count == expected
