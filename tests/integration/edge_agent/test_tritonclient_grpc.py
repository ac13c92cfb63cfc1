# SPDX-License-Identifier: Apache-2.0
"""Triton's own gRPC client, unmodified, against the real service."""

import queue
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from edge_agent.addresses import Address
from edge_agent.config import ServiceConfig, Size
from edge_agent.errors import ServeError
from edge_agent.serve.grpc_messages import load_methods
from edge_agent.serve.server import Server
from tests.support.served_models import TwinRepository, make_repository
from tests.support.service import FREE, serve_models

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    return make_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: TwinRepository) -> Iterator[Server]:
    with serve_models(models, ServiceConfig(grpc=FREE)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    assert server.grpc_address is not None
    with triton.InferenceServerClient("{}:{}".format(*server.grpc_address)) as client:
        yield client


def input_of(data: np.ndarray) -> Any:
    made = triton.InferInput("input", list(data.shape), "FP32")
    made.set_data_from_numpy(data)
    return made


def expected(models: TwinRepository) -> np.ndarray:
    slot = models.slot("main")
    assert slot is not None
    assert slot.model is not None
    return np.stack([slot.model.infer(one) for one in X])


def test_the_messages_have_tritons_numbers() -> None:
    known = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    seen: set[str] = set()

    def compare(ours: Any, theirs: Any) -> None:
        assert ours.full_name == theirs.full_name
        if ours.full_name in seen:
            return
        seen.add(ours.full_name)
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type) == (other.number, other.type)
            assert field.is_repeated == other.is_repeated
            if field.message_type is not None:
                compare(field.message_type, other.message_type)

    methods = load_methods()
    for method in methods.values():
        for message in (method.request.DESCRIPTOR, method.response.DESCRIPTOR):
            compare(message, known[message.name])
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for name, method in methods.items():
        theirs = service.methods_by_name[name]
        assert theirs.input_type.name == method.request.DESCRIPTOR.name
        assert theirs.output_type.name == method.response.DESCRIPTOR.name
    assert len(seen) > 40


def test_health_and_descriptions(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("main")
    assert client.get_server_metadata().name == "edge-agent"
    metadata = client.get_model_metadata("main")
    assert list(metadata.inputs[0].shape) == [-1, 4]
    assert client.is_model_ready("main", metadata.versions[0])
    config = client.get_model_config("main").config
    assert (list(config.input[0].dims), config.backend) == ([4], "litert")
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    index = client.get_model_repository_index().models
    assert [(one.name, one.state) for one in index] == [("main", "READY")]


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(client: Any, models: TwinRepository, coding: str | None) -> None:
    result = client.infer(
        "main", [input_of(X)], request_id="r1", compression_algorithm=coding
    )

    np.testing.assert_array_equal(result.as_numpy("output"), expected(models))
    assert result.get_response().id == "r1"


def test_async_infer_and_classes(client: Any, models: TwinRepository) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    wanted = triton.InferRequestedOutput("output", class_count=1)

    client.async_infer(
        "main",
        [input_of(X)],
        lambda result, error: answers.put((result, error)),
        outputs=[wanted],
    )
    result, error = answers.get(timeout=20)

    names = ("low", "middle", "high")
    assert error is None
    assert result.as_numpy("output").ravel().tolist() == [
        f"{row.max():f}:{row.argmax()}:{names[row.argmax()]}".encode()
        for row in expected(models)
    ]


def test_a_stream_answers_each_request(client: Any, models: TwinRepository) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("main", [input_of(X)])
    client.async_stream_infer("absent", [input_of(X)])
    (good, _), (_, error) = answers.get(timeout=20), answers.get(timeout=20)
    client.stop_stream()

    np.testing.assert_array_equal(good.as_numpy("output"), expected(models))
    assert "expected one of main" in str(error)


def test_statistics(client: Any) -> None:
    before = client.get_inference_statistics("main").model_stats[0]
    client.infer("main", [input_of(X)])
    after = client.get_inference_statistics().model_stats[0]

    assert after.inference_count - before.inference_count == 3
    assert after.inference_stats.success.ns > before.inference_stats.success.ns


def test_unload_and_load(client: Any) -> None:
    client.unload_model("main")
    assert not client.is_model_ready("main")
    assert not client.is_server_ready()
    with pytest.raises(InferenceServerException) as caught:
        client.infer("main", [input_of(X)])
    client.load_model("main")
    assert client.is_model_ready("main")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "trace": (lambda client: client.get_trace_settings(), "UNIMPLEMENTED"),
    "log": (lambda client: client.get_log_settings(), "UNIMPLEMENTED"),
    "shared": (
        lambda client: client.get_system_shared_memory_status(),
        "UNIMPLEMENTED",
    ),
    "upload": (
        lambda client: client.load_model("main", config="{}"),
        "INVALID_ARGUMENT",
    ),
    "absent": (lambda client: client.get_model_metadata("absent"), "NOT_FOUND"),
    "version": (lambda client: client.is_model_ready("main", "9"), "NOT_FOUND"),
    "shape": (
        lambda client: client.infer("main", [input_of(X[:, :3].copy())]),
        "INVALID_ARGUMENT",
    ),
    "sequence": (
        lambda client: client.infer("main", [input_of(X)], sequence_id=4),
        "INVALID_ARGUMENT",
    ),
    "NaN": (
        lambda client: client.infer("main", [input_of(X * np.float32(np.nan))]),
        "INVALID_ARGUMENT",
    ),
    "output": (
        lambda client: client.infer(
            "main", [input_of(X)], outputs=[triton.InferRequestedOutput("none")]
        ),
        "INVALID_ARGUMENT",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_reads_as_an_error(client: Any, name: str) -> None:
    call, code = REFUSED[name]

    with pytest.raises(InferenceServerException) as caught:
        call(client)

    assert caught.value.status() == f"StatusCode.{code}"


def test_numbers_in_the_message_and_malformed_ones(server: Server) -> None:
    assert server.grpc_address is not None
    method = load_methods()["ModelInfer"]
    good = method.request(
        model_name="main",
        inputs=[
            {
                "name": "input",
                "datatype": "FP32",
                "shape": [1, 4],
                "contents": {"fp32_contents": [1, 2, 3, 4]},
            }
        ],
    )
    short = method.request.FromString(good.SerializeToString())
    del short.inputs[0].contents.fp32_contents[3]
    both = method.request.FromString(good.SerializeToString())
    both.raw_input_contents.append(bytes(16))
    with grpc.insecure_channel("{}:{}".format(*server.grpc_address)) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = method.response.FromString(call(good.SerializeToString(), timeout=20))
        codes = []
        for bad in (short.SerializeToString(), both.SerializeToString(), b"\xff" * 9):
            with pytest.raises(grpc.RpcError) as caught:
                call(bad, timeout=20)
            codes.append(caught.value.code().name)

    assert len(answer.raw_output_contents[0]) == 12
    assert codes[:2] == ["INVALID_ARGUMENT"] * 2
    assert codes[2] == "INTERNAL"  # gRPC's own answer to what is no message


def test_a_large_message_is_refused(models: TwinRepository) -> None:
    config = ServiceConfig(grpc=FREE, max_request=Size(1000))
    with serve_models(models, config) as server:
        assert server.grpc_address is not None
        url = "{}:{}".format(*server.grpc_address)
        with triton.InferenceServerClient(url) as client:
            with pytest.raises(InferenceServerException) as caught:
                client.infer("main", [input_of(np.zeros((99_999, 4), np.float32))])
            assert client.is_server_live()

    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_taken_port_is_refused(models: TwinRepository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = Address("127.0.0.1", holder.getsockname()[1])
        with (
            pytest.raises(ServeError, match="cannot listen"),
            serve_models(models, ServiceConfig(grpc=address)),
        ):
            pytest.fail("it started")


def test_http_and_grpc_count_together(models: TwinRepository, tmp_path: Path) -> None:
    config = ServiceConfig(unix=tmp_path / "s", grpc=FREE)
    with serve_models(models, config) as server:
        assert server.grpc_address is not None
        assert server.http_address is None
        url = "{}:{}".format(*server.grpc_address)
        with triton.InferenceServerClient(url) as client:
            client.infer("main", [input_of(X)])
            stats = client.get_inference_statistics("main").model_stats[0]

    assert stats.inference_count == 3
