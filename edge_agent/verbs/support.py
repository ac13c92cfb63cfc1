# SPDX-License-Identifier: Apache-2.0
"""``edge-agent support-dump``: what helps others to find a fault, without secrets.

Owns the list of what goes in. It is a list of what may, never of what may not: no file
of the state folder is copied whole but those named here, and none of them holds a key.
Of the configuration go effective values with their origin, where a text that came from
the environment stays ``${NAME}`` and the value of a key that is named like a secret is
left out.
"""

import io
import json
import platform
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import edge_agent
from edge_agent.clock import SystemClock
from edge_agent.config import AgentConfig, Layers
from edge_agent.daemon.check import run_checks
from edge_agent.daemon.identity import describe_hardware, describe_runtimes
from edge_agent.device import load_device
from edge_agent.ota.slots import FOLDER
from edge_agent.verbs.answer import Answer
from edge_contract.errors import EdgeError

HIDDEN: Final = "(left out)"
MAX_FILE_BYTES: Final = 1024**2
_SECRET = re.compile(r"pass|secret|token|key|credential|auth", re.IGNORECASE)
_USER = re.compile(r"//[^/@\s]+@")
_STATE_FILES: Final = ("run/status.json", "want.json", "tuf/floor")
_SLOT_FILES: Final = (
    "slots.json",
    "update.json",
    "local.json",
    "proofs.json",
    "tries.json",
)


def dump(layers: Layers, output: Path) -> Answer:
    """Write the archive.

    Args:
        layers: What the agent was told.
        output: A ``.tar.gz`` file; replaced.

    Raises:
        ConfigError: The configuration is wrong.
        OSError: The file cannot be written.
    """
    config = layers.resolve().config
    names = []
    with tarfile.open(output, "w:gz") as archive:
        for name, body in _collect(layers, config):
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mode = len(body), 0o600
            entry.mtime = SystemClock().wall_us() // 1_000_000
            archive.addfile(entry, io.BytesIO(body))
            names.append(name)
    output.chmod(0o600)
    text = f"{output}: {len(names)} files, no secrets; look before you send it"
    return Answer({"file": str(output), "names": names}, text)


def _collect(layers: Layers, config: AgentConfig) -> Iterator[tuple[str, bytes]]:
    yield "configuration.json", _json([_hide(asdict(one)) for one in layers.explain()])
    yield "machine.json", _json(_describe_machine())
    yield "enrolment.json", _json(_describe_enrolment(config))
    yield "checks.json", _json([asdict(one) for one in run_checks(config)])
    yield "outbox.json", _json(_describe_outbox(config.state_dir / "outbox.sqlite"))
    for name in _STATE_FILES:
        yield from _copy(config.state_dir / name, name)
    for slot in config.models:
        for name in _SLOT_FILES:
            path = f"{FOLDER}/{slot}/{name}"
            yield from _copy(config.state_dir / path, path)


def _copy(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as stream:
            yield name, stream.read(MAX_FILE_BYTES)
    except OSError:
        return


def _hide(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry without what may be a secret."""
    last = str(entry["key"]).rpartition(".")[2]
    value = HIDDEN if _SECRET.search(last) else entry["value"]
    return {**entry, "value": _USER.sub("//(left out)@", str(value))}


def _describe_machine() -> dict[str, Any]:
    clock = SystemClock()
    return {
        "agent": edge_agent.__version__,
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        **describe_hardware(),
        "runtimes": describe_runtimes(),
        "time_us": clock.wall_us(),
        "clock_synced": clock.is_synced(),
        "packages": sorted({f"{one.name} {one.version}" for one in distributions()}),
    }


def _describe_enrolment(config: AgentConfig) -> dict[str, Any]:
    try:
        device = load_device(config.state_dir)
    except EdgeError as error:
        return {"error": error.message}
    return {
        "fleet": device.fleet,
        "device": device.device,
        "epoch": device.epoch,
        "broker": f"{device.broker_host}:{device.broker_port}",
        "server": _USER.sub("//(left out)@", device.api_url),
        "is_pinned": device.certificate_pin is not None,
    }


def _describe_outbox(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT kind, count(*), sum(length(body)) FROM rows GROUP BY kind"
            ).fetchall()
    except sqlite3.Error as error:
        return {"error": str(error)}
    return {kind: {"rows": count, "bytes": size} for kind, count, size in rows}


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1, default=str).encode()
