# SPDX-License-Identifier: Apache-2.0
"""A stop in the middle of an inference that takes long: it ends, and is counted."""

import json
import time
from pathlib import Path

import pytest

from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe

SLOW = ModelRecipe(observe="vector", hidden=(4096, 4096, 1024), name="slow")


@pytest.mark.slow
@pytest.mark.parametrize("wait_seconds", [0.0, 0.003, 0.011])
def test_sigterm_in_mid_inference_loses_nothing(
    tmp_path: Path, wait_seconds: float
) -> None:
    home = AgentHome(tmp_path)
    home.enrol()
    home.record()
    home.install(SLOW)
    home.start()
    try:
        home.await_produced(5)
        time.sleep(wait_seconds)
        home.stop()
    finally:
        home.close()

    books = home.read_books()
    assert books.accounted == books.produced
    assert books.to_declare == 0
    results = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(results) == books.produced
    assert not any("error" in json.loads(one) for one in results)
