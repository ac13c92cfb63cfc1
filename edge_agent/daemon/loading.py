# SPDX-License-Identifier: Apache-2.0
"""How a release becomes a model in this process, without the process dying of it.

Owns the order: tries that ended with the agent are counted, a release that is new to
this runtime is probed in a process apart, and only then it is loaded, proved and warmed
here. What has passed once is remembered (``proofs.json`` in the slot's folder) and not
probed again until the release, its variant or the runtime changes.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.config import SlotConfig
from edge_agent.errors import ModelError
from edge_agent.probe import Limits, run_selftest
from edge_agent.runtime.backend import find_backend
from edge_agent.runtime.hardware import find_device_profile
from edge_agent.runtime.model import Model, load_bundle, prove
from edge_agent.runtime.variants import choose_variant
from edge_agent.store import write_atomic
from edge_contract.bundle import Bundle
from edge_contract.errors import EdgeError

MAX_TRIES: Final = 3
_MAX_PROOFS: Final = 16
_LOG = logging.getLogger(__name__)


class BootLoopError(ModelError):
    """The agent has died several times with this release."""

    code = "agent.model.boot-loop"


@dataclass(frozen=True, slots=True)
class LoadRules:
    """How releases are loaded.

    Attributes:
        threads: Threads that one inference may use.
        device_profile: Which variant to take.
        limits: What a probe may use.
        command: Given a bundle's path, the command that probes it.
    """

    threads: int
    device_profile: str
    limits: Limits
    command: Callable[[Path], Sequence[str]]


def probe_limits(told: SlotConfig) -> Limits:
    """Return what a probe of a slot's releases may use."""
    p95_us = None if told.latency is None else told.latency.us
    return Limits(memory_bytes=told.memory.bytes, p95_us=p95_us)


class Loader:
    """Loads releases for one slot.

    Args:
        folder: The slot's folder.
        rules: How.
    """

    def __init__(self, folder: Path, rules: LoadRules) -> None:
        self._rules = rules
        self._proofs = folder / "proofs.json"
        self._tries = folder / "tries.json"

    def load(self, path: Path, digest: str, *, is_last_hope: bool = False) -> Model:
        """Load a release; ``settled`` follows when it has served.

        Args:
            path: Its bundle.
            digest: What the bundle must be.
            is_last_hope: Try even what the agent has died of: nothing else is there.

        Raises:
            EdgeError: It cannot be served.
            OSError: The bundle cannot be read, or the disk refused.
        """
        tries = self._read_tries().get(digest, 0)
        if tries >= MAX_TRIES and not is_last_hope:
            msg = f"release {digest[:12]}: the agent died {tries} times with it"
            raise BootLoopError(msg, next_step="build it for this device's runtime")
        with Bundle.open(path) as bundle:
            if bundle.digest != digest:
                msg = f"store: expected release {digest}, found {bundle.digest}"
                raise ModelError(msg, next_step="fetch the release again")
            self._probe(bundle, path)
            self._write_tries({digest: tries + 1})
            try:
                return self._load(bundle)
            except (EdgeError, OSError):
                self.settled()  # it failed, and the agent lives
                raise

    def settled(self) -> None:
        """Hear that the agent did not die of the release: tries are forgotten."""
        self._tries.unlink(missing_ok=True)

    def _load(self, bundle: Bundle) -> Model:
        model = load_bundle(
            bundle,
            threads=self._rules.threads,
            device_profile=self._rules.device_profile,
        )
        prove(model, bundle)
        model.warm()
        return model

    def _probe(self, bundle: Bundle, path: Path) -> None:
        rules = self._rules
        variant = choose_variant(
            bundle.manifest, find_device_profile(rules.device_profile)
        )
        version = find_backend(variant.runtime).runtime_version()
        words = (bundle.digest, variant.id, variant.runtime, version, rules.threads)
        key = " ".join(map(str, words))
        proofs = self._read_proofs()
        if key in proofs:
            return
        _LOG.info("probing %s", bundle.digest[:12])
        run_selftest(rules.command(path), rules.limits)
        kept = [*proofs, key][-_MAX_PROOFS:]
        write_atomic(self._proofs, json.dumps(kept).encode())

    def _read_proofs(self) -> list[str]:
        found = _read(self._proofs, [])
        return [str(one) for one in found] if isinstance(found, list) else []

    def _read_tries(self) -> dict[str, int]:
        found = _read(self._tries, {})
        if not isinstance(found, dict):
            return {}
        return {key: value for key, value in found.items() if type(value) is int}

    def _write_tries(self, tries: dict[str, int]) -> None:
        write_atomic(self._tries, json.dumps(tries).encode())


def _read(path: Path, otherwise: Any) -> Any:
    """Return what a file holds; a damaged one costs no more than another probe."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return otherwise
