# SPDX-License-Identifier: Apache-2.0
"""``edge-agent check``: whether this device could run, part by part.

Owns the list of checks. Each says what it looked at and what it found; none changes
anything.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.daemon.status import LOCK_NAME
from edge_agent.enrol import load_device
from edge_agent.ota.slots import Slots
from edge_agent.runtime.backend import find_backend
from edge_agent.runtime.hardware import find_device_profile
from edge_agent.runtime.model import load_bundle, prove
from edge_agent.sources.recording import load_recordings
from edge_agent.store import is_locked
from edge_contract.bundle import Bundle
from edge_contract.errors import EdgeError


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


def run_checks(config: AgentConfig) -> list[CheckResult]:
    """Look at everything that a start needs, in the order in which it needs it."""
    checks: dict[str, Callable[[AgentConfig], str]] = {
        "state_dir": _check_state_dir,
        "enrolment": _check_enrolment,
        "runtime": _check_runtime,
        "source": _check_source,
        "sink": _check_sink,
        "model": _check_model,
    }
    results = []
    for name, check in checks.items():
        try:
            results.append(CheckResult(name, ok=True, detail=check(config)))
        except (EdgeError, OSError) as error:
            results.append(CheckResult(name, ok=False, detail=str(error)))
    return results


def _check_state_dir(config: AgentConfig) -> str:
    folder = config.state_dir
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        msg = f"{folder}: expected a folder that can be written"
        raise OSError(msg)
    running = is_locked(folder / LOCK_NAME)
    return f"{folder}{'; an agent runs here' if running else ''}"


def _check_enrolment(config: AgentConfig) -> str:
    device = load_device(config.state_dir)
    return (
        f"{device.device} in fleet {device.fleet}, broker "
        f"{device.broker_host}:{device.broker_port}, server {device.api_url}"
    )


def _check_runtime(config: AgentConfig) -> str:
    version = find_backend("litert").runtime_version()
    _, slot = config.pick()
    profile = find_device_profile(slot.device_profile)
    return f"litert {version}, device profile {profile}"


def _check_source(config: AgentConfig) -> str:
    _, slot = config.pick()
    if slot.source is None:
        return "none: only the local service asks"
    if slot.source.follow and not slot.source.path.exists():
        return f"{slot.source.path} is not there yet; the agent waits for it"
    recordings = load_recordings(slot.source.path)
    rows = sum(len(one.rows) for one in recordings)
    return f"{len(recordings)} recordings, {rows} rows of {recordings[0].rows.shape[1]}"


def _check_sink(config: AgentConfig) -> str:
    _, slot = config.pick()
    for sink in slot.sinks:
        folder = sink.path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            msg = f"{folder}: expected a folder that can be written"
            raise OSError(msg)
    found = ", ".join(str(one.path) for one in slot.sinks)
    return found or "none: results are counted only"


def _check_model(config: AgentConfig) -> str:
    slots = Slots(config.state_dir)
    if slots.active is None:
        return "none yet: the first update brings one"
    _, told = config.pick()
    with Bundle.open(slots.path(slots.active)) as bundle:
        model = load_bundle(
            bundle,
            threads=told.threads,
            device_profile=told.device_profile,
        )
        prove(model, bundle)
    return f"{model.manifest.name}, variant {model.variant.id}, {model.digest[:12]}"
