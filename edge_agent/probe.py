# SPDX-License-Identifier: Apache-2.0
"""The probe: a model meets this device in a process of its own, which may die.

Owns both ends of ``edge-agent selftest``: the limits that the child puts on itself, the
form of its answer, and the words for how it ended. A crash, a hang, or too much memory
is an answer like any other. The child loads the model and runs its golden vectors; this
module runs no model.

The memory limit is RLIMIT_DATA: what the process writes to, where RLIMIT_AS would count
the address space that runtimes reserve and never touch.
"""

import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import BackendError, UpdateError, UpdateTrustError
from edge_contract.errors import EXIT_TRUST
from edge_contract.golden import GoldenResult

TIMEOUT_SECONDS: Final = 60.0
CPU_SECONDS: Final = 60
MEMORY_BYTES: Final = 2 * 1024**3
MEMORY_CODE: Final = "agent.memory"
_MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_WORDS: Final = 300
_MEMORY_WORDS: Final = ("bad_alloc", "MemoryError", "memory")
_SIGNALS: Final = {
    signal.SIGKILL: "killed: the kernel was short of memory, or somebody did",
    signal.SIGXCPU: "it used more processor time than it may",
    signal.SIGABRT: "it gave up (SIGABRT)",
}


class SelfTestError(UpdateError):
    """The release does not do on this device what it did when it was built."""

    code = "agent.update.selftest"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the child may use; ``p95_us`` is what an inference may take, None: anything.

    The child is told all but the time; ``p95_us`` is compared with what it measured.
    """

    timeout_seconds: float = TIMEOUT_SECONDS
    cpu_seconds: int = CPU_SECONDS
    memory_bytes: int = MEMORY_BYTES
    p95_us: int | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The same for the child's command line."""
        return (
            f"--cpu-seconds={self.cpu_seconds}",
            f"--memory-bytes={self.memory_bytes}",
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """What the child found.

    Attributes:
        digest: Of the release.
        variant: That was tried.
        runtime: What runs it.
        runtime_version: Of the installed one.
        golden: The comparison with what the converter saw.
        p95_us: Of an inference.
        peak_kib: Most resident memory of the process, runtime and all.
    """

    digest: str
    variant: str
    runtime: str
    runtime_version: str
    golden: GoldenResult
    p95_us: int = 0
    peak_kib: int = 0


def selftest_command(
    path: Path, *, device_profile: str, threads: int, limits: Limits
) -> list[str]:
    """Return the command line of the child for one bundle."""
    return [
        sys.executable,
        "-m",
        "edge_agent.cli",
        "selftest",
        str(path),
        "--json",
        f"--device-profile={device_profile}",
        f"--threads={threads}",
        *limits.arguments,
    ]


def limit_self(limits: Limits) -> None:
    """Put the limits on this process, for good; memory counts from here on."""
    memory, seconds = read_bytes("VmData") + limits.memory_bytes, limits.cpu_seconds
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # A second later the kernel kills; until then the signal says why.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_bytes(name: str) -> int:
    """Return a number of this process's status; 0 where nobody says.

    Args:
        name: ``VmData``, which RLIMIT_DATA counts; ``VmHWM``, the most that was
            resident since the program was loaded (getrusage begins with the parent's).
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE | re.ASCII)
    return int(found[1]) * 1024 if found else 0


def format_proof(proof: Proof) -> str:
    """Return the line that the child prints on stdout."""
    return json.dumps(asdict(proof))


def run_selftest(command: Sequence[str], limits: Limits | None = None) -> Proof:
    """Run the child and return what it found.

    Args:
        command: Starts the child, which prints ``format_proof`` on stdout.
        limits: What it may use; the command tells the child, but for the time.

    Raises:
        SelfTestError: It crashed, hung, answered nonsense, or the outputs differ.
        UpdateTrustError: No trusted key has signed the release.
    """
    limits = limits or Limits()
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SelfTestError(
            f"self-test: hung: expected an answer within {limits.timeout_seconds:g} s",
            next_step="the release is too slow for this device",
        ) from error
    except OSError as error:
        raise SelfTestError(f"self-test: cannot be started: {error}") from error
    if done.returncode < 0:
        raise _death(signal.Signals(-done.returncode), done.stderr, limits)
    return _parse(done.stdout, done.returncode, done.stderr, limits)


def _death(number: signal.Signals, stderr: bytes, limits: Limits) -> SelfTestError:
    last = _last_words(stderr)
    if number == signal.SIGABRT and any(one in last for one in _MEMORY_WORDS):
        words = f"it needs more memory than the {limits.memory_bytes} bytes it may take"
        next_step = "raise models.SLOT.memory, or build a smaller model"
    else:
        words = _SIGNALS.get(number, "it crashed in the runtime's own code")
        next_step = "the runtime of this device cannot run the release"
    return SelfTestError(
        f"self-test: the process died of {number.name}: {words}", next_step=next_step
    )


def _parse(stdout: bytes, code: int, stderr: bytes, limits: Limits) -> Proof:
    try:
        answer = json.loads(stdout[:_MAX_ANSWER_BYTES])
        if "error" in answer:
            raise _refusal(answer["error"], code, limits)
        proof = Proof(**{**answer, "golden": GoldenResult(**answer["golden"])})
    except (ValueError, TypeError, KeyError) as error:
        raise SelfTestError(
            f"self-test: expected a result, found exit code {code}: "
            f"{_last_words(stderr)}",
            next_step="run `edge-agent selftest` by hand to see more",
        ) from error
    result = proof.golden
    if not result.ok:
        raise SelfTestError(
            "self-test: expected the golden outputs, found "
            f"{result.disagreements} other winners, largest difference "
            f"{result.max_abs:g}, SQNR {result.sqnr_db:g} dB",
            next_step="build a variant for this device's runtime",
        )
    if limits.p95_us is not None and proof.p95_us > limits.p95_us:
        raise SelfTestError(
            f"self-test: expected a p95 of {limits.p95_us} us, found {proof.p95_us} us",
            next_step="raise models.SLOT.latency, or build a faster model",
        )
    return proof


def _refusal(error: dict[str, Any], code: int, limits: Limits) -> UpdateError:
    message = f"self-test: {str(error['message'])[:_MAX_WORDS]}"
    if error["code"] == BackendError.code:
        # Runtimes do not say why an allocation failed.
        message += f" (it may take {limits.memory_bytes} bytes of memory)"
    next_step = str(error.get("next_step", ""))[:_MAX_WORDS]
    kind = UpdateTrustError if code == EXIT_TRUST else SelfTestError
    return kind(message, next_step=next_step)


def _last_words(stderr: bytes) -> str:
    lines = stderr[-_MAX_ANSWER_BYTES:].decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-1:])[-_MAX_WORDS:]
