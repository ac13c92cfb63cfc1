# SPDX-License-Identifier: Apache-2.0
"""What docs/how-to/serve-over-http.md tells a reader to type, typed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.batch.store import BatchStore, Identity, Prediction, StoredPredictions
from edge_agent.config import ServiceConfig
from tests.support.served_models import make_repository
from tests.support.service import FREE, serve_models

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "serve-over-http.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    models = make_repository(tmp_path)
    identity = Identity("", "", "toy", "ab" * 32, "float32", '["low", "high"]')
    with BatchStore(tmp_path / "p.sqlite", identity) as store:
        store.append([Prediction("4711", 0, np.array([0.25, 0.75], np.float32))])
    stores = StoredPredictions({"nightly": tmp_path / "p.sqlite"})
    config = ServiceConfig(http=FREE, unix=tmp_path / "agent.sock")
    with serve_models(models, config, predictions=stores) as server:
        assert server.http_address is not None
        url = "{}:{}".format(*server.http_address)
        shell = [one for one in blocks("sh") if one.startswith("curl")]
        lines = "".join(shell).replace("127.0.0.1:8080", url)
        commands = lines.replace("curl -s", "curl -sSf -w '\\n'")
        typed = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        (program,) = blocks("python")
        answer = subprocess.run(
            [sys.executable, "-c", program.replace("127.0.0.1:8080", url)],
            capture_output=True,
            text=True,
            check=True,
        )

    described, inferred, ready, prediction = typed.stdout.splitlines()
    assert '"name":"main"' in described
    assert '"model_name":"main"' in inferred
    assert ready == '{"ready":true}'
    assert '"label":"high"' in prediction
    assert answer.stdout.startswith("[[0.")
