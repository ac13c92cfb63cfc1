# SPDX-License-Identifier: Apache-2.0
"""``edge-agent batch``, killed in its work, and looked up through the real service."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edge_agent import load
from edge_agent.batch.store import StoredPredictions
from edge_agent.config import ServiceConfig
from tests.support.bundles import make_bundle
from tests.support.served_models import VECTOR, TwinRepository, TwinSlot
from tests.support.service import serve_models

ROOT = Path(__file__).parents[3]
ROWS = 400_000
PATIENCE_SECONDS = 120.0  # the store commits once a second


def start(folder: Path, target: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "edge_agent.cli", "batch", "toy.bundle"),
            *("--allow-unsigned", "--input", "table.npy", "-o", target, "--json"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read_done(path: Path) -> int:
    try:
        address = f"{path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            (value,) = database.execute(
                "SELECT value FROM meta WHERE name = 'done'"
            ).fetchone()
            return int(value)
    except (sqlite3.Error, TypeError):
        return 0


@pytest.mark.slow
def test_a_killed_batch_goes_on_and_is_served(tmp_path: Path) -> None:
    make_bundle(tmp_path / "toy.bundle", VECTOR)
    x = np.random.default_rng(5).normal(size=(ROWS, 4)).astype(np.float32)
    np.save(tmp_path / "table.npy", x)
    target = tmp_path / "p.sqlite"
    first = start(tmp_path, "p.sqlite")
    until = time.monotonic() + PATIENCE_SECONDS
    while not (done := read_done(target)) and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()

    assert first.returncode == -signal.SIGKILL
    assert 0 < done < ROWS
    kept = _count(target)
    assert kept == read_done(target) >= done

    out, complaints = start(tmp_path, "p.sqlite").communicate()

    document: dict[str, Any] = json.loads(out)
    assert (document["rows"], document["failed"]) == (ROWS, 0), complaints
    assert _count(target) == ROWS
    model = load(tmp_path / "toy.bundle", allow_unsigned=True)
    stores = StoredPredictions({"nightly": target})
    slots = TwinRepository({"main": TwinSlot(model)})
    path = tmp_path / "s"
    with serve_models(slots, ServiceConfig(unix=path), predictions=stores):
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://agent") as client:
            for row in (0, kept - 1, kept, ROWS - 1):
                found = client.get(f"/edge/v1/predictions/nightly/{row}").json()
                assert found["output"] == model.infer(x[row]).tolist()
            absent = client.get(f"/edge/v1/predictions/nightly/{ROWS}")
    assert absent.status_code == 404
    assert f"no prediction under the key '{ROWS}'" in absent.json()["error"]


def _count(path: Path) -> int:
    # Opened to write: what the killed process left half done is rolled back.
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("SELECT count(*) FROM predictions").fetchone()
        return int(count)
