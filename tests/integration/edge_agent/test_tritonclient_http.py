# SPDX-License-Identifier: Apache-2.0
"""Triton's own client, unmodified, against the real service."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from edge_agent.config import ServiceConfig
from edge_agent.serve.server import Server
from tests.support.bundles import ModelRecipe
from tests.support.served_models import TwinRepository, TwinSlot, load_model
from tests.support.service import serve_models

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    folder = tmp_path_factory.mktemp("models")
    image = ModelRecipe(observe="image", length=8, features=3, name="eyes")
    vector = ModelRecipe(observe="vector", features=4)
    recipes = {"main": vector, "eyes": image}
    return TwinRepository(
        {name: TwinSlot(load_model(folder, one)) for name, one in recipes.items()}
    )


@pytest.fixture(scope="module", params=["httptools", "h11"])
def server(models: TwinRepository, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve_models(models, parser=request.param) as server:
        yield server


def url(server: Server) -> str:
    assert server.http_address is not None
    return "{}:{}".format(*server.http_address)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(url(server)) as client:
        yield client


def input_of(data: np.ndarray, *, binary: bool = True) -> Any:
    made = triton.InferInput("input", list(data.shape), "FP32")
    made.set_data_from_numpy(data, binary_data=binary)
    return made


def expected(models: TwinRepository, name: str, data: np.ndarray) -> np.ndarray:
    slot = models.slot(name)
    assert slot is not None
    assert slot.model is not None
    return np.stack([slot.model.infer(one) for one in data])


def test_health_and_descriptions(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("main")
    assert not client.is_model_ready("absent")
    assert client.get_server_metadata()["name"] == "edge-agent"
    metadata = client.get_model_metadata("eyes")
    assert metadata["inputs"][0]["shape"] == [-1, 8, 8, 3]
    version = metadata["versions"][0]
    assert client.is_model_ready("eyes", version)
    assert client.get_model_metadata("eyes", version) == metadata
    config = client.get_model_config("eyes", version)
    assert config["input"][0]["dims"] == [8, 8, 3]
    index = client.get_model_repository_index()
    assert [(one["name"], one["state"]) for one in index] == [
        ("main", "READY"),
        ("eyes", "READY"),
    ]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(
    client: Any, models: TwinRepository, *, binary: bool, coding: str | None
) -> None:
    result = client.infer(
        "main",
        [input_of(X, binary=binary)],
        outputs=[triton.InferRequestedOutput("output", binary_data=binary)],
        request_id="r1",
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
        priority=1,
        timeout=1000,
        parameters={"origin": "test"},
    )

    np.testing.assert_array_equal(
        result.as_numpy("output"), expected(models, "main", X)
    )
    assert result.get_response()["id"] == "r1"


def test_infer_with_all_defaults(client: Any, models: TwinRepository) -> None:
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)

    result = client.infer("eyes", [input_of(image)])

    np.testing.assert_array_equal(
        result.as_numpy("output"), expected(models, "eyes", image)
    )


def test_async_infer_and_classes(client: Any, models: TwinRepository) -> None:
    wanted = triton.InferRequestedOutput("output", class_count=1)

    calls = [
        client.async_infer("main", [input_of(X)], outputs=[wanted]) for _ in range(3)
    ]

    best = expected(models, "main", X)
    names = ("low", "middle", "high")
    winners = [
        f"{row.max():f}:{row.argmax()}:{names[row.argmax()]}".encode() for row in best
    ]
    for call in calls:
        assert call.get_result().as_numpy("output").ravel().tolist() == winners


def test_bodies_made_and_read_by_the_client_itself(
    client: Any, models: TwinRepository
) -> None:
    body, json_size = triton.InferenceServerClient.generate_request_body([input_of(X)])

    response = client._post(
        "v2/models/main/infer", body, {"Inference-Header-Content-Length": json_size}, {}
    )
    result = triton.InferenceServerClient.parse_response_body(
        response.read(),
        header_length=int(response.get("Inference-Header-Content-Length")),
    )

    np.testing.assert_array_equal(
        result.as_numpy("output"), expected(models, "main", X)
    )


def test_statistics_of_one_and_of_all(client: Any) -> None:
    before = client.get_inference_statistics("main")["model_stats"][0]
    client.infer("main", [input_of(X)])
    client.infer("main", [input_of(X)])
    after = client.get_inference_statistics("main")["model_stats"][0]

    assert after["inference_count"] - before["inference_count"] == 6
    success = [one["inference_stats"]["success"] for one in (before, after)]
    assert success[1]["count"] - success[0]["count"] == 2
    assert success[1]["ns"] > success[0]["ns"]
    every = client.get_inference_statistics()["model_stats"]
    assert [one["name"] for one in every] == ["main", "eyes"]


def test_unload_and_load(client: Any) -> None:
    client.unload_model("eyes")
    assert not client.is_model_ready("eyes")
    assert client.is_server_ready()
    client.load_model("eyes")
    assert client.is_model_ready("eyes")


REFUSED: dict[str, Callable[[Any], Any]] = {
    "trace": lambda client: client.get_trace_settings(),
    "model trace": lambda client: client.update_trace_settings("main", {}),
    "log": lambda client: client.update_log_settings({"log_info": True}),
    "shared": lambda client: client.get_system_shared_memory_status(),
    "register": lambda client: client.register_system_shared_memory("r", "/k", 8),
    "cuda": lambda client: client.get_cuda_shared_memory_status(),
    "upload": lambda client: client.load_model("main", config="{}"),
    "absent": lambda client: client.get_model_metadata("absent"),
    "sequence": lambda client: client.infer("main", [input_of(X)], sequence_id=4),
    "shape": lambda client: client.infer("main", [input_of(X[:, :3].copy())]),
    "absent output": lambda client: client.infer(
        "main", [input_of(X)], outputs=[triton.InferRequestedOutput("none")]
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_reads_as_an_error(client: Any, name: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        REFUSED[name](client)

    assert caught.value.status() in {"400", "404"}
    assert caught.value.message()


def test_the_asyncio_client(server: Server, models: TwinRepository) -> None:
    async def drive() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(url(server)) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("main")
            assert (await client.get_model_metadata("main"))["name"] == "main"
            assert (await client.get_model_config("main"))["name"] == "main"
            assert len(await client.get_model_repository_index()) == 2
            await client.get_inference_statistics("main")
            await client.unload_model("eyes")
            await client.load_model("eyes")
            with pytest.raises(InferenceServerException):
                await client.get_log_settings()
            results = await asyncio.gather(
                *(
                    client.infer(
                        "main",
                        [input_of(X)],
                        request_compression_algorithm=coding,
                        response_compression_algorithm=coding,
                    )
                    for coding in (None, "gzip", "deflate")
                )
            )
            return [one.as_numpy("output") for one in results]

    for output in asyncio.run(drive()):
        np.testing.assert_array_equal(output, expected(models, "main", X))


def test_the_unix_socket_serves_the_same(
    models: TwinRepository, tmp_path: Path
) -> None:
    path = tmp_path / "agent.sock"
    with serve_models(models, ServiceConfig(unix=path)):
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://agent") as client:
            metadata = client.get("/v2/models/main").json()
            body = {
                "inputs": [
                    {
                        "name": "input",
                        "datatype": "FP32",
                        "shape": [3, 4],
                        "data": X.ravel().tolist(),
                    }
                ]
            }
            reply = client.post("/v2/models/main/infer", json=body).json()

    assert metadata["name"] == "main"
    assert np.array(reply["outputs"][0]["data"], np.float32).tolist() == (
        expected(models, "main", X).ravel().tolist()
    )
    assert not path.exists()
