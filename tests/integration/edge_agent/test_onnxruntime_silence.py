# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on a device talks to nobody: its wheels report home by default."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.agent_home import ROOT
from tests.support.bundles import ModelRecipe, make_bundle

# A client that reports makes its device id and its queue before anything else.
LOAD = """
import sys
from edge_agent import load
load(sys.argv[1], allow_unsigned=True).warm()
"""


def test_loading_a_model_leaves_no_device_id_of_its_maker(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundle = tmp_path / "onnx.bundle"
    make_bundle(bundle, ModelRecipe(runtime="onnxruntime"))
    environment = {
        "HOME": str(home),
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
    }

    subprocess.run(
        [sys.executable, "-c", LOAD, str(bundle)], env=environment, check=True
    )

    assert list(home.iterdir()) == []
