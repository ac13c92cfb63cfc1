# SPDX-License-Identifier: Apache-2.0
"""A whole agent without a fleet, asked by Triton's clients over every way in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent import load
from tests.support.agent_home import await_value, unused_port
from tests.support.bundles import make_bundle
from tests.support.served_models import VECTOR

ROOT = Path(__file__).parents[2]
FRAMES = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
CONFIG = """\
state_dir: state
models: {{main: {{bundle: toy.bundle, trust: [builder.pub]}}}}
service: {{http: "127.0.0.1:{http}", unix: agent.sock, grpc: "127.0.0.1:{grpc}"}}
"""


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "builder.pub").write_bytes(public)
    make_bundle(tmp_path / "toy.bundle", VECTOR, sign_key=private)
    http, grpc = unused_port(), unused_port()
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIG.format(http=http, grpc=grpc))
    with subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(config)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_value(lambda: is_ready(http), bool)
            yield http, grpc
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert not (tmp_path / "agent.sock").exists()


def is_ready(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v2/health/ready")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def ask(library: Any, client: Any) -> np.ndarray:
    frame = library.InferInput("input", [3, 4], "FP32")
    frame.set_data_from_numpy(FRAMES)
    output: np.ndarray = client.infer("main", [frame]).as_numpy("output")
    return output


@pytest.mark.slow
def test_every_way_in_leads_to_the_same_model(
    ports: tuple[int, int], tmp_path: Path
) -> None:
    http, grpc = ports
    model = load(tmp_path / "toy.bundle", trust=[tmp_path / "builder.pub"])
    expected = np.stack([model.infer(one) for one in FRAMES])

    with triton.InferenceServerClient(f"127.0.0.1:{http}") as client:
        np.testing.assert_array_equal(ask(triton, client), expected)
        client.unload_model("main")
        assert not client.is_model_ready("main")
        client.load_model("main")
        assert client.is_model_ready("main")
        np.testing.assert_array_equal(ask(triton, client), expected)
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{grpc}") as client:
        np.testing.assert_array_equal(ask(triton_grpc, client), expected)
    transport = httpx.HTTPTransport(uds=str(tmp_path / "agent.sock"))
    with httpx.Client(transport=transport, base_url="http://agent") as local:
        status = local.get("/edge/v1/status").json()
        metrics = local.get("/metrics").text
    # Three frames, three times: the service's inferences are observed like any other.
    assert status["inferences"] == 9
    assert status["serving"] == {"main": model.digest}
    assert "edge_agent_info" in metrics
