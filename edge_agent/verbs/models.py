# SPDX-License-Identifier: Apache-2.0
"""Verbs about releases: prove one, update from the fleet, bring one from a stick."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge_agent.config import AgentConfig, UpdateConfig
from edge_agent.daemon.loading import probe_limits
from edge_agent.device import load_builder_keys, load_device
from edge_agent.errors import ModelError
from edge_agent.ota.deferral import Terms
from edge_agent.ota.folder import FolderAccess, is_repository
from edge_agent.ota.link import is_metered
from edge_agent.ota.machine import UpdateRecord
from edge_agent.ota.schedule import load_zone
from edge_agent.ota.stick import import_bundle
from edge_agent.ota.update import UpdateSettings, run_update
from edge_agent.probe import (
    Limits,
    Proof,
    limit_self,
    read_bytes,
    run_selftest,
    selftest_command,
)
from edge_agent.runtime.hardware import find_device_profile
from edge_agent.runtime.model import Model, load_bundle, run_golden
from edge_contract.bundle import Bundle
from edge_contract.errors import BundleUnsignedError
from edge_contract.signing import parse_public_key

_TIMES: Final = 40
_FEW_TIMES: Final = 5
_MEASURE_NS: Final = 1_000_000_000
_RAISE: Final = "raise models.SLOT.memory, or build a smaller model"


class ModelMemoryError(ModelError):
    """A model needs more memory than it may take."""

    code = "agent.model.memory"


def selftest(
    path: Path,
    *,
    device_profile: str,
    threads: int,
    limits: Limits | None,
    trust: Sequence[Path],
    enrolled: Path | None,
) -> Proof:
    """Run a bundle's golden vectors in this process.

    Args:
        path: The bundle.
        device_profile: Which variant to take.
        threads: Threads that one inference may use.
        limits: To put on this process; None: none.
        trust: Public key files, one of which must have signed it.
        enrolled: A state folder: the builder of its enrolment must have signed it.
            With neither nobody need have: it has been verified before.

    Raises:
        EdgeError: It is not trusted, cannot be loaded, or fails.
    """
    if limits is not None:
        limit_self(limits)
    try:
        with Bundle.open(path) as bundle:
            _check_signature(bundle, trust, enrolled)
            model = load_bundle(bundle, threads=threads, device_profile=device_profile)
            golden = run_golden(model, bundle)
            return Proof(
                digest=bundle.digest,
                variant=model.variant.id,
                runtime=model.variant.runtime,
                runtime_version=model.card.runtime_version,
                golden=golden,
                p95_us=_measure_p95_us(model, bundle),
                peak_kib=read_bytes("VmHWM") // 1024,
            )
    except MemoryError as error:
        raise ModelMemoryError(
            f"{path.name}: it needs more memory than it may take", next_step=_RAISE
        ) from error


def _measure_p95_us(model: Model, bundle: Bundle) -> int:
    """Return the 95th percentile of some inferences on the golden inputs."""
    times_ns = []
    shape = model.manifest.input.shape
    for one in itertools.cycle(bundle.golden.inputs):
        frame = one.reshape(shape)
        started_ns = time.perf_counter_ns()
        model.backend.infer(frame)
        times_ns.append(time.perf_counter_ns() - started_ns)
        is_long = sum(times_ns) > _MEASURE_NS and len(times_ns) >= _FEW_TIMES
        if is_long or len(times_ns) == _TIMES:
            break
    return sorted(times_ns)[math.ceil(0.95 * len(times_ns)) - 1] // 1000


def update(config: AgentConfig, slot: str | None, *, is_now: bool) -> UpdateRecord:
    """Do what the fleet asks for, up to the point where the daemon takes over.

    Args:
        config: What the agent was told.
        slot: Which model; None: the first.
        is_now: Not to wait for a window, a cheaper link, or another day.

    Raises:
        EdgeError: The check or the update failed.
    """
    settings = replace(make_settings(config, slot), is_now=is_now)
    return run_update(settings, load_device(config.state_dir))


def import_release(
    config: AgentConfig, slot: str | None, source: Path, trust: Sequence[Path]
) -> UpdateRecord:
    """Bring a release from a stick, up to the point where the daemon takes over.

    A repository that was exported is believed by the same rules as the server; a person
    is there, so that no window is waited for.

    Args:
        config: What the agent was told.
        slot: Which model; None: the first.
        source: A bundle, a folder with one, or an exported repository.
        trust: Public key files; none: those of the slot, else the enrolled builder's.

    Raises:
        EdgeError: No bundle, not trusted, failed, or an update is under way.
    """
    settings = make_settings(config, slot)
    if is_repository(source):
        if trust:
            msg = f"{source}: a repository is trusted by the enrolment alone"
            raise ModelError(msg, next_step="leave --trust out, or name a bundle")
        settings = replace(settings, is_now=True)
        return run_update(settings, load_device(config.state_dir), FolderAccess(source))
    _, told = config.pick(slot)
    keys = [f"--trust={one}" for one in trust or told.trust]
    keys = keys or [f"--enrolled={config.state_dir}"]

    def judge(path: Path) -> Proof:
        return run_selftest([*settings.selftest_command(path), *keys], settings.limits)

    return import_bundle(config.state_dir, settings.slot, source, judge)


def make_settings(config: AgentConfig, slot: str | None) -> UpdateSettings:
    """Return what an update of a slot needs.

    Raises:
        ConfigError: There is no such slot.
        ModelError: The slot serves a file of its own.
    """
    name, told = config.pick(slot)
    if told.bundle is not None:
        msg = f"models.{name}: it serves {told.bundle}, and takes no updates"
        raise ModelError(msg, next_step="replace that file, or leave out its bundle")
    hardware = find_device_profile(told.device_profile)
    limits = probe_limits(told)

    def command(path: Path) -> list[str]:
        return selftest_command(
            path, device_profile=hardware, threads=told.threads, limits=limits
        )

    return UpdateSettings(
        config.state_dir, name, hardware, command, limits, make_terms(config.update)
    )


def make_terms(told: UpdateConfig) -> Terms:
    """Return what the device says of when and how updates may run.

    Raises:
        ConfigError: It knows no such time zone.
    """
    return Terms(
        windows=tuple(one.window for one in told.windows),
        zone=load_zone(told.time_zone),
        is_metered={
            "auto": is_metered,
            "always": lambda: True,
            "never": lambda: False,
        }[told.metered],
        metered=told.on_metered,
        daily_bytes=None if told.budget is None else told.budget.bytes,
        bytes_a_second=None if told.bandwidth is None else told.bandwidth.bytes,
    )


def _check_signature(
    bundle: Bundle, trust: Sequence[Path], enrolled: Path | None
) -> None:
    if not trust and enrolled is None:
        return
    if not bundle.is_signed:
        msg = f"bundle {bundle.path.name}: it is unsigned"
        raise BundleUnsignedError(msg, next_step="sign it with the builder's key")
    if trust:
        keys = [parse_public_key(one.read_bytes()) for one in trust]
    else:
        keys = load_builder_keys(enrolled or Path())
    bundle.verify_signature(keys)
    bundle.check_files()
