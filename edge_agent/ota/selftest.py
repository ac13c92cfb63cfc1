# SPDX-License-Identifier: Apache-2.0
"""The self-test: golden vectors in a subprocess that may die.

Owns the limits and the reading of the outcome: a crash, a hang, or too much memory is
an answer like any other. The caller gives the command that starts the child, which runs
the release's golden inputs, compares, and prints ``format_result``. It runs no model.
"""

import json
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from edge_agent.errors import UpdateError
from edge_contract.golden import GoldenResult

TIMEOUT_SECONDS: Final = 60.0
CPU_SECONDS: Final = 60
MEMORY_BYTES: Final = 4 * 1024**3  # address space, of which runtimes reserve much
_MAX_ANSWER_BYTES = 64 * 1024


class SelfTestError(UpdateError):
    """The release does not do on this device what it did when it was built."""

    code = "agent.update.selftest"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the child may use."""

    timeout_seconds: float = TIMEOUT_SECONDS
    cpu_seconds: int = CPU_SECONDS
    memory_bytes: int = MEMORY_BYTES


def format_result(result: GoldenResult) -> str:
    """Return the line that the child prints on stdout."""
    return json.dumps(asdict(result))


def run_selftest(command: Sequence[str], limits: Limits | None = None) -> GoldenResult:
    """Run the child and return its verdict.

    Args:
        command: Starts the child, which prints ``format_result`` on stdout.
        limits: What it may use.

    Raises:
        SelfTestError: It crashed, hung, answered nonsense, or the outputs differ.
    """
    limits = limits or Limits()
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.timeout_seconds,
            check=False,
            preexec_fn=lambda: _limit(limits),  # no thread runs in our subprocess
        )
    except subprocess.TimeoutExpired as error:
        raise SelfTestError(
            f"self-test: expected an answer within {limits.timeout_seconds:g} s",
            next_step="the release is too slow for this device",
        ) from error
    except OSError as error:
        raise SelfTestError(f"self-test: cannot be started: {error}") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise SelfTestError(
            f"self-test: the process died of {name}",
            next_step="the runtime of this device cannot run the release",
        )
    return _parse(done.stdout, done.returncode, done.stderr)


def _parse(stdout: bytes, code: int, stderr: bytes) -> GoldenResult:
    try:
        lines = stdout[:_MAX_ANSWER_BYTES].splitlines()
        result = GoldenResult(**json.loads(lines[-1]))
    except (ValueError, TypeError, IndexError) as error:
        last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SelfTestError(
            f"self-test: expected a result, found exit code {code}: {' '.join(last)}",
            next_step="run `edge-agent update` by hand to see more",
        ) from error
    if not result.ok:
        raise SelfTestError(
            "self-test: expected the golden outputs, found "
            f"{result.disagreements} other winners, largest difference "
            f"{result.max_abs:g}, SQNR {result.sqnr_db:g} dB",
            next_step="build a variant for this device's runtime",
        )
    return result


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
