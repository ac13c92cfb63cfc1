# SPDX-License-Identifier: Apache-2.0
"""``edge-agent check``: whether this device could run, part by part.

Owns the list of checks. Each says what it looked at, what it found, and what to do
where something is wrong; none changes anything. A model is met in a process apart: the
check outlives a model that crashes.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.broker import visit_broker
from edge_agent.clock import SystemClock
from edge_agent.config import AgentConfig, FileSourceConfig, SlotConfig
from edge_agent.config.sinks import MqttSinkConfig, SinkConfig, WebhookSinkConfig
from edge_agent.config.sources import MqttSourceConfig
from edge_agent.daemon.agent import find_device
from edge_agent.daemon.loading import probe_limits
from edge_agent.daemon.status import LOCK_NAME, read_status
from edge_agent.errors import AgentError
from edge_agent.ota.slots import FOLDER, Slots, free_bytes
from edge_agent.probe import run_selftest, selftest_command
from edge_agent.runtime.backend import RUNTIMES, find_backend
from edge_agent.runtime.hardware import find_device_profile
from edge_agent.sinks.webhook import WebhookOutlet
from edge_agent.sources.recording import load_recordings
from edge_agent.store import is_locked
from edge_agent.telemetry.greeting import greet
from edge_contract.errors import EdgeError

MIN_FREE_BYTES: Final = 64 * 1024**2
EARLIEST_US: Final = 1_735_689_600_000_000  # 2025: no device is older than its software
_FEATURES: Final = ("avx2", "avx512_vnni", "avx_vnni", "asimd", "asimddp", "neon")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at; ``next_step`` says what to do where it is wrong."""

    name: str
    ok: bool
    detail: str
    next_step: str = ""


class CheckError(AgentError):
    """Something that the agent needs is not there."""

    code = "agent.check"


def run_checks(config: AgentConfig) -> list[CheckResult]:
    """Look at everything that a start needs, in the order in which it needs it."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("state_dir", lambda: _check_state_dir(config.state_dir)),
        ("disk", lambda: _check_disk(config.state_dir)),
        ("clock", _check_clock),
        ("cpu", _check_cpu),
        ("enrolment", lambda: _check_enrolment(config)),
        ("broker", lambda: _check_broker(config)),
    ]
    for name, slot in config.models.items():
        checks += _slot_checks(config.state_dir, name, slot)
    return [_run(name, check) for name, check in checks]


def _slot_checks(
    state_dir: Path, name: str, slot: SlotConfig
) -> list[tuple[str, Callable[[], str]]]:
    key = f"models.{name}"
    return [
        (f"{key}.source", lambda: _check_source(slot)),
        (f"{key}.sinks", lambda: _check_sinks(slot)),
        (f"{key}.model", lambda: _check_model(state_dir, name, slot)),
    ]


def _run(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, ok=True, detail=check())
    except EdgeError as error:
        return CheckResult(
            name, ok=False, detail=error.message, next_step=error.next_step
        )
    except OSError as error:
        detail = f"{error.filename or name}: {(error.strerror or str(error)).lower()}"
        step = "check the path, and who may read and write it"
        return CheckResult(name, ok=False, detail=detail, next_step=step)


def _check_state_dir(folder: Path) -> str:
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        msg = f"{folder}: expected a folder that can be written"
        raise CheckError(msg, next_step=f"mkdir -p {folder}, or change state_dir")
    running = is_locked(folder / LOCK_NAME)
    return f"{folder}{'; an agent runs here' if running else ''}"


def _check_disk(folder: Path) -> str:
    free = free_bytes(folder)
    if free < MIN_FREE_BYTES:
        msg = f"{folder}: expected {MIN_FREE_BYTES} bytes free, found {free}"
        raise CheckError(msg, next_step="free space, or move state_dir")
    return f"{free // 1024**2} MiB free"


def _check_clock() -> str:
    clock = SystemClock()
    if clock.wall_us() < EARLIEST_US:
        msg = f"the clock stands at {clock.wall_us() // 1_000_000} s after 1970"
        raise CheckError(msg, next_step="set it: timedatectl set-ntp true")
    if not clock.is_synced():
        return "plausible, not synchronised: the server re-times windows"
    return "synchronised"


def _check_cpu() -> str:
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = find_backend(name).runtime_version()
        except EdgeError:
            continue
    if not found:
        msg = "no inference runtime is installed"
        raise CheckError(msg, next_step="install edgeloop[agent]")
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        words = set()
    features = " ".join(one for one in _FEATURES if one in words) or "none known"
    runtimes = ", ".join(f"{name} {version}" for name, version in found.items())
    return (
        f"{platform.machine()}, device profile {find_device_profile('auto')}, "
        f"features {features}; {runtimes}"
    )


def _check_enrolment(config: AgentConfig) -> str:
    device = find_device(config)
    if device is None:
        return "none: the agent serves its own bundles alone"
    return (
        f"{device.device} in fleet {device.fleet}, broker "
        f"{device.broker_host}:{device.broker_port}, server {device.api_url}"
    )


def _check_broker(config: AgentConfig) -> str:
    try:
        device = find_device(config)
    except EdgeError:
        return "not asked: not enrolled"
    if device is None:
        return "none: nothing is sent"
    if is_locked(config.state_dir / LOCK_NAME):
        if read_status(config.state_dir).get("connected"):
            return "the running agent is connected"
        msg = "the running agent is not connected"
        raise CheckError(msg, next_step="look at its log; it tries again by itself")
    return greet(device)


def _check_source(slot: SlotConfig) -> str:
    source = slot.source
    if isinstance(source, MqttSourceConfig):
        return visit_broker(source)
    if not isinstance(source, FileSourceConfig):
        return str(getattr(source, "type", "none: only the local service asks"))
    if source.follow and not source.path.exists():
        return f"{source.path} is not there yet; the agent waits for it"
    recordings = load_recordings(source.path)
    rows = sum(len(one.rows) for one in recordings)
    return f"{len(recordings)} recordings, {rows} rows of {recordings[0].rows.shape[1]}"


def _check_sinks(slot: SlotConfig) -> str:
    for sink in slot.sinks:
        path = getattr(sink, "path", None)
        if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
            msg = f"{path.parent}: expected a folder that can be written"
            raise CheckError(msg, next_step="make it, or change the sink's path")
    found = ", ".join(_visit(one) for one in slot.sinks)
    return found or "none: results are counted only"


def _visit(sink: SinkConfig) -> str:
    """Return what answers where a sink sends results to; others are files."""
    if isinstance(sink, MqttSinkConfig):
        return visit_broker(sink)
    if isinstance(sink, WebhookSinkConfig):
        return WebhookOutlet(sink).visit()
    return sink.type


def _check_model(state_dir: Path, name: str, slot: SlotConfig) -> str:
    path, trust = slot.bundle, [f"--trust={one}" for one in slot.trust]
    if path is None:
        folder = state_dir / FOLDER / name
        slots = Slots(folder) if folder.is_dir() else None
        if slots is None or slots.active is None:
            return "none yet: the first update brings one"
        path, trust = slots.path(slots.active), []
    elif not trust:
        trust = [f"--enrolled={state_dir}"]
    limits = probe_limits(slot)
    command = selftest_command(
        path, device_profile=slot.device_profile, threads=slot.threads, limits=limits
    )
    proof = run_selftest([*command, *trust], limits)
    return (
        f"{proof.digest[:12]}, variant {proof.variant}, {proof.runtime} "
        f"{proof.runtime_version}: golden vectors pass, "
        f"p95 {proof.p95_us / 1000:.2f} ms, {proof.peak_kib // 1024} MiB at most"
    )
