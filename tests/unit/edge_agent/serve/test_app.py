# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import BatchError
from edge_agent.serve.request import MAX_ROWS
from tests.support.asgi_client import AsgiClient
from tests.support.served_models import TwinRepository, make_repository

FRAME = [[0.5, -1.0, 2.0, 0.0]]
INFER = "/v2/models/main/infer"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    return make_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture
def client(models: TwinRepository) -> AsgiClient:
    models.load("main")
    return AsgiClient(models)


def tensor(**changes: Any) -> dict[str, Any]:
    return {
        "name": "input",
        "datatype": "FP32",
        "shape": [1, 4],
        "data": FRAME,
        **changes,
    }


def request(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(**changes)]}


def expected(models: TwinRepository, frames: Any = FRAME) -> list[float]:
    slot = models.slot("main")
    assert slot is not None
    outputs = [slot.infer(np.array([one], np.float32), "").output for one in frames]
    assert all(one is not None for one in outputs)
    return [float(value) for one in outputs if one is not None for value in one]


class Stores:
    """Two stores: one answers, one cannot be read."""

    @property
    def names(self) -> Sequence[str]:
        return ("nightly", "broken")

    def find(self, store: str, key: str) -> Mapping[str, object] | None:
        if store == "broken":
            msg = "store broken: the file is locked"
            raise BatchError(msg)
        return {"key": key, "output": [1.0]} if key in {"7", "a/7"} else None


def test_json_in_and_out(client: AsgiClient, models: TwinRepository) -> None:
    reply = client.post(INFER, {"id": "a", **request()})

    assert reply.status == 200
    assert reply.headers[b"content-type"] == b"application/json"
    assert reply.document["id"] == "a"
    assert reply.document["outputs"] == [
        {
            "name": "output",
            "datatype": "FP32",
            "shape": [1, 3],
            "data": expected(models),
        }
    ]


def test_a_batch_runs_row_by_row(client: AsgiClient, models: TwinRepository) -> None:
    frames = [[float(row), 1.0, 0.0, -1.0] for row in range(5)]

    reply = client.post(INFER, request(shape=[5, 4], data=frames))

    assert reply.document["outputs"][0]["shape"] == [5, 3]
    assert reply.document["outputs"][0]["data"] == expected(models, frames)


@pytest.mark.parametrize("flag", ["request", "output"])
def test_binary_in_and_out(
    client: AsgiClient, models: TwinRepository, flag: str
) -> None:
    document: dict[str, Any] = request(parameters={"binary_data_size": 16})
    del document["inputs"][0]["data"]
    if flag == "request":
        document["parameters"] = {"binary_data_output": True}
    else:
        document["outputs"] = [{"name": "output", "parameters": {"binary_data": True}}]
    text = json.dumps(document).encode()
    length = (b"inference-header-content-length", str(len(text)).encode())

    reply = client.post(INFER, text + np.array(FRAME, np.float32).tobytes(), length)

    at = int(reply.headers[b"inference-header-content-length"])
    output = json.loads(reply.body[:at])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 12}
    assert "data" not in output
    assert np.frombuffer(reply.body[at:], "<f4").tolist() == expected(models)


def test_classification_names_the_winners(
    client: AsgiClient, models: TwinRepository
) -> None:
    wanted = [{"name": "output", "parameters": {"classification": 2}}]

    reply = client.post(INFER, {**request(), "outputs": wanted})

    values = expected(models)
    best = sorted(range(3), key=lambda index: -values[index])[:2]
    labels = ("low", "middle", "high")
    assert reply.document["outputs"][0] == {
        "name": "output",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": [f"{values[one]:f}:{one}:{labels[one]}" for one in best],
    }


@pytest.mark.parametrize(
    ("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)]
)
def test_compressed_request_and_answer(
    client: AsgiClient, models: TwinRepository, coding: bytes, pack: Any
) -> None:
    body = pack(json.dumps(request()).encode())

    reply = client.post(
        INFER, body, (b"content-encoding", coding), (b"accept-encoding", coding)
    )

    assert reply.headers[b"content-encoding"] == coding
    unpacked = zlib.decompress(reply.body, 47)
    assert json.loads(unpacked)["outputs"][0]["data"] == expected(models)


def test_an_offer_of_many_codings_is_not_taken(client: AsgiClient) -> None:
    reply = client.get("/v2", (b"accept-encoding", b"gzip, deflate"))

    assert b"content-encoding" not in reply.headers


BAD_REQUESTS: list[tuple[Any, int, str]] = [
    (b"", 400, "expected 1 to 0 bytes of JSON"),
    (b"[]", 400, "expected names and values, found list"),
    (b"{", 400, "expected JSON"),
    (b"\xff\xfe", 400, "expected JSON"),
    (b"[" * 60_000, 400, "expected JSON"),
    ({}, 400, "expected inputs as a list of one"),
    ({"inputs": [tensor(), tensor()]}, 400, "expected inputs as a list of one"),
    ({"inputs": ["x"]}, 400, "expected names and values, found str"),
    (request(name="other"), 400, "expected 'input'"),
    (request(name=7), 400, "expected name as a text"),
    (request(datatype="FP64"), 400, "expected datatype FP32, found 'FP64'"),
    (request(shape=[4]), 400, "expected shape [-1, 4]"),
    (request(shape=[0, 4], data=[]), 400, "expected shape [-1, 4]"),
    (request(shape=[MAX_ROWS + 1, 4]), 400, "expected shape [-1, 4]"),
    (request(shape=[1, 5]), 400, "expected shape [-1, 4]"),
    (request(shape=[]), 400, "expected shape as a list of whole numbers"),
    (request(shape=[True, 4]), 400, "expected shape as a list of whole numbers"),
    (request(shape=[1.0, 4]), 400, "expected shape as a list of whole numbers"),
    (request(data=[1, 2, 3]), 400, "expected data of shape [1, 4]"),
    (request(data=[[1, 2], [3, 4]]), 400, "expected data of shape [1, 4]"),
    (request(data=[1, 2, 3, "4"]), 400, "expected data as numbers"),
    (request(data=[1, 2, 3, None]), 400, "expected data as numbers"),
    (request(data=[True] * 4), 400, "expected data as numbers"),
    (request(data=[[1, 2], 3, 4]), 400, "expected data as numbers"),
    (request(data={"0": 1}), 400, "expected data as numbers"),
    (request(data=[1e39, 0, 0, 0]), 400, "expected numbers within float32"),
    (request(data=[10**30, 0, 0, 0]), 400, "expected data as numbers"),
    (b'{"inputs": [{"data": [NaN]}]}', 400, "NaN is not a number"),
    (request(parameters=[]), 400, "input: parameters: expected names and values"),
    (request(parameters={"binary_data_size": 16}), 400, "either data or"),
    (
        {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4]}]},
        400,
        "either data or",
    ),
    (request(parameters={"shared_memory_region": "r"}), 400, "shared memory"),
    ({**request(), "id": 5}, 400, "expected id as a text"),
    ({**request(), "id": "x" * 257}, 400, "expected id as a text"),
    ({**request(), "outputs": []}, 400, "expected outputs as a list of one"),
    ({**request(), "outputs": [{"name": "b"}]}, 400, "expected 'output'"),
    ({**request(), "parameters": {"sequence_id": 3}}, 400, "sequences"),
    (
        {**request(), "parameters": {"binary_data_output": 1}},
        400,
        "expected binary_data_output as true or false",
    ),
    (
        {
            **request(),
            "outputs": [{"name": "output", "parameters": {"classification": -1}}],
        },
        400,
        "expected a classification from 0",
    ),
    (request(data=[0.123456789] * 8000), 413, "Inference-Header-Content-Length"),
]


@pytest.mark.parametrize(("body", "status", "reason"), BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_reason(
    client: AsgiClient, body: Any, status: int, reason: str
) -> None:
    reply = client.post(INFER, body)

    assert reply.status == status
    assert reason in reply.document["error"]
    assert reply.document["code"].startswith("agent.serve.")


@pytest.mark.parametrize("length", [b"0", b"-1", b"x", b"1000000", b"9" * 30, b"3"])
def test_a_wrong_json_length_is_refused(client: AsgiClient, length: bytes) -> None:
    told = (b"inference-header-content-length", length)

    reply = client.post(INFER, request(), told)

    assert (reply.status, reply.document["code"]) == (400, "agent.serve.request")


@pytest.mark.parametrize("size", [0, 15, 17, -16, "16", 16.0, True])
def test_a_wrong_binary_size_is_refused(client: AsgiClient, size: Any) -> None:
    document = request(parameters={"binary_data_size": size})
    del document["inputs"][0]["data"]
    text = json.dumps(document).encode()
    told = (b"inference-header-content-length", str(len(text)).encode())

    reply = client.post(INFER, text + bytes(16), told)

    assert reply.status == 400
    assert "after the JSON" in reply.document["error"]


def test_nan_gives_a_reason_and_no_number(client: AsgiClient) -> None:
    document = request(parameters={"binary_data_size": 16})
    del document["inputs"][0]["data"]
    text = json.dumps(document).encode()
    told = (b"inference-header-content-length", str(len(text)).encode())

    reply = client.post(INFER, text + np.full(4, np.nan, "<f4").tobytes(), told)

    assert reply.status == 400
    assert "the frame holds NaN or infinity" in reply.document["error"]


def test_a_failing_model_is_its_own_fault(
    client: AsgiClient, models: TwinRepository
) -> None:
    slot = models.slot("main")
    assert slot is not None
    slot.fails = True
    try:
        reply = client.post(INFER, request())
    finally:
        slot.fails = False

    assert (reply.status, reply.document["code"]) == (500, "agent.serve.failed")
    stats = client.get("/v2/models/main/stats").document["model_stats"][0]
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["inference_stats"]["success"]["count"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "agent.serve.absent"),
        ("GET", "/v3", 404, "agent.serve.absent"),
        ("GET", "/v2/models", 404, "agent.serve.absent"),
        ("GET", "/v2/models/none", 404, "agent.serve.absent"),
        ("GET", "/v2/models/none/ready", 404, "agent.serve.absent"),
        ("GET", "/v2/models/main/versions/0000/ready", 404, "agent.serve.absent"),
        ("GET", "/v2/models/main/nonsense", 404, "agent.serve.absent"),
        ("POST", "/v2/models/none/infer", 404, "agent.serve.absent"),
        ("POST", "/v2/repository/models/none/load", 404, "agent.serve.absent"),
        ("GET", "/edge/v1/predictions/none/1", 404, "agent.serve.absent"),
        ("GET", "/v2/models/main/infer", 405, "agent.serve.method"),
        ("DELETE", "/v2/models/main", 405, "agent.serve.method"),
        ("POST", "/metrics", 405, "agent.serve.method"),
        ("GET", "/v2/trace/setting", 400, "agent.serve.unsupported"),
        ("GET", "/v2/models/main/trace/setting", 400, "agent.serve.unsupported"),
        ("POST", "/v2/logging", 400, "agent.serve.unsupported"),
        ("GET", "/v2/systemsharedmemory/status", 400, "agent.serve.unsupported"),
        ("POST", "/v2/cudasharedmemory/unregister", 400, "agent.serve.unsupported"),
    ],
)
def test_paths_that_are_refused(
    client: AsgiClient, method: str, path: str, status: int, code: str
) -> None:
    reply = client.call(method, path, b"")

    assert (reply.status, reply.document["code"]) == (status, code)


def test_health_and_metadata(client: AsgiClient, models: TwinRepository) -> None:
    slot = models.slot("main")
    assert slot is not None
    assert slot.card is not None
    version = slot.card.digest[:12]

    assert client.get("/v2/health/live").document == {"live": True}
    assert client.get("/v2/health/ready").document == {"ready": True}
    assert client.get("/v2/").document["name"] == "edge-agent"
    assert client.get(f"/v2/models/main/versions/{version}/ready").status == 200
    assert client.get(f"/v2/models/main/versions/{slot.card.digest}").status == 200
    described = client.get("/v2/models/main").document
    assert described["versions"] == [version]
    assert described["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 4]}
    ]
    config = client.get("/v2/models/main/config").document
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (MAX_ROWS, [4])


def test_unload_and_load(client: AsgiClient) -> None:
    unloaded = client.post(
        "/v2/repository/models/main/unload",
        {"parameters": {"unload_dependents": False}},
    )

    assert unloaded.status == 200
    assert client.get("/v2/models/main/ready").status == 503
    assert client.get("/v2/health/ready").status == 503
    assert client.post(INFER, request()).document["code"] == "agent.serve.unready"
    assert client.post("/v2/repository/index").document == [
        {
            "name": "main",
            "state": "UNAVAILABLE",
            "version": "",
            "reason": "no release serves",
        }
    ]
    assert client.post("/v2/repository/index", {"ready": True}).document == []
    assert client.post("/v2/repository/models/main/load").status == 200
    assert client.post(INFER, request()).status == 200


def test_a_model_cannot_be_sent(client: AsgiClient) -> None:
    told = {"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}}

    reply = client.post("/v2/repository/models/main/load", told)

    assert (reply.status, reply.document["code"]) == (400, "agent.serve.unsupported")


def test_statistics_count_rows_and_requests(client: AsgiClient) -> None:
    client.post(INFER, request())
    client.post(INFER, request(shape=[2, 4], data=FRAME * 2))
    client.post(INFER, request(shape=[9, 9]))

    stats = client.get("/v2/models/stats").document["model_stats"][0]

    assert (stats["inference_count"], stats["last_inference"]) == (3, 1_800_000_000_000)
    assert stats["inference_stats"]["success"]["count"] == 2
    assert stats["inference_stats"]["fail"]["count"] == 1
    sizes = [(one["batch_size"], one["compute_infer"]) for one in stats["batch_stats"]]
    assert [(size, each["count"]) for size, each in sizes] == [(1, 1), (2, 1)]
    assert (
        sum(each["ns"] for _, each in sizes)
        == (stats["inference_stats"]["compute_infer"]["ns"])
    )


def test_metrics_and_status_come_from_outside(client: AsgiClient) -> None:
    metrics = client.get("/metrics")

    assert metrics.body == b"edge_up 1\n"
    assert metrics.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    assert client.get("/edge/v1/status").document == {"serving": "main"}


def test_predictions_are_looked_up(models: TwinRepository) -> None:
    client = AsgiClient(models, predictions=Stores())

    found = client.get("/edge/v1/predictions/nightly/7")
    slashed = client.get("/edge/v1/predictions/nightly/a/7")
    absent = client.get("/edge/v1/predictions/nightly/8")
    unknown = client.get("/edge/v1/predictions/other/7")
    broken = client.get("/edge/v1/predictions/broken/7")

    assert (found.status, found.document) == (200, {"key": "7", "output": [1.0]})
    assert slashed.document["key"] == "a/7"
    assert absent.status == 404
    assert "no prediction under the key '8'" in absent.document["error"]
    assert unknown.status == 404
    assert "expected one of: nightly, broken" in unknown.document["error"]
    assert broken.status == 503
    assert "the file is locked" in broken.document["error"]


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example:8080",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"10.0.0.7:8080",
        b"[::2]:8080",
        b"",
    ],
)
def test_another_host_is_refused(client: AsgiClient, host: bytes) -> None:
    reply = client.get("/v2/health/live", (b"host", host))

    assert (reply.status, reply.document["code"]) == (403, "agent.serve.forbidden")


@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:1", b"127.0.0.1", b"[::1]:8080", b"[::1]"]
)
def test_this_machine_is_served(client: AsgiClient, host: bytes) -> None:
    assert client.get("/v2/health/live", (b"host", host)).status == 200


def test_over_the_unix_socket_any_host_will_do(client: AsgiClient) -> None:
    head = [(b"host", b"agent")]

    assert client.call("GET", "/v2", b"", head, client=None).status == 200


@pytest.mark.parametrize("origin", [b"http://127.0.0.1:8080", b"null", b"https://e.x"])
def test_a_web_page_is_refused(client: AsgiClient, origin: bytes) -> None:
    reply = client.post(INFER, request(), (b"origin", origin))

    assert (reply.status, reply.document["code"]) == (403, "agent.serve.forbidden")


def test_large_heads_are_refused(client: AsgiClient) -> None:
    many = [(b"x-%d" % number, b"1") for number in range(70)]

    assert client.get("/v2", (b"x", b"y" * 20_000)).status == 431
    assert client.get("/v2", *many).status == 431
    assert client.get("/v2", (b"host", b"localhost"), (b"host", b"x")).status == 400


def test_large_bodies_are_refused(models: TwinRepository) -> None:
    client = AsgiClient(models, max_request=1000)
    bomb = gzip.compress(bytes(100_000))

    announced = client.post(INFER, b"{}", (b"content-length", b"1001"))
    sent = client.post(INFER, bytes(1001))
    packed = client.post(INFER, bomb, (b"content-encoding", b"gzip"))
    nonsense = client.post(INFER, b"{}", (b"content-length", b"1e3"))

    assert [each.status for each in (announced, sent, packed)] == [413] * 3
    assert nonsense.status == 400


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"br", b"x"),
        (b"gzip", b"no gzip"),
        (b"gzip", gzip.compress(b"{}")[:-4]),
        (b"gzip", gzip.compress(b"{}") + b"more"),
    ],
    ids=["unknown", "none", "cut", "more"],
)
def test_damaged_codings_are_refused(
    client: AsgiClient, coding: bytes, body: bytes
) -> None:
    assert client.post(INFER, body, (b"content-encoding", coding)).status == 400


def test_our_own_fault_is_answered(models: TwinRepository) -> None:
    client = AsgiClient(models, predictions=FaultyStores())

    reply = client.get("/edge/v1/predictions/one/1")

    assert (reply.status, reply.document["code"]) == (500, "agent.serve.failed")
    assert "secret" not in reply.document["error"]


class FaultyStores:
    """A bug."""

    @property
    def names(self) -> Sequence[str]:
        return ("one",)

    def find(self, store: str, key: str) -> Mapping[str, object] | None:
        msg = f"secret {store} {key}"
        raise ZeroDivisionError(msg)
