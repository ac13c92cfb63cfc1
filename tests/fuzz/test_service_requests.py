# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to the local service: a clean refusal, or an answer."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.flow import ModelCard
from edge_agent.serve.coding import unpack
from edge_agent.serve.refusals import RefusedError
from edge_agent.serve.request import InferRequest, parse_request
from tests.support.asgi_client import AsgiClient
from tests.support.served_models import TwinRepository, make_repository

CARD = ModelCard(
    *("toy", "ab" * 32, "float32", "litert", "2.3.0", "XNNPACK"),
    *("input", (1, 2, 3), "output", (1, 2), ("no", "yes")),
)
NAMES = st.sampled_from(
    ["id", "name", "shape", "datatype", "data", "inputs", "outputs", "parameters"]
)
KEYS = NAMES | st.sampled_from(
    ["binary_data_size", "binary_data", "binary_data_output", "classification", "x"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.sampled_from(["input", "output", "FP32", ""])
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6)
    ),
    max_leaves=30,
)
GOOD: dict[str, Any] = {
    "id": "7",
    "inputs": [
        {
            "name": "input",
            "datatype": "FP32",
            "shape": [1, 2, 3],
            "data": [1, 2, 3, 4, 5, 6],
            "parameters": {},
        }
    ],
    "outputs": [{"name": "output", "parameters": {"classification": 1}}],
    "parameters": {"binary_data_output": True},
}
PATHS = st.sampled_from(
    [
        *("v2", "models", "main", "infer", "versions", "stats", "ready", "config"),
        *("edge", "v1", "repository", "index", "load", "health", "predictions"),
        *("", "..", "%00"),
    ]
)


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(each for key, one in inner for each in paths_of(one, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


def parse(body: bytes, length: int | None) -> InferRequest | None:
    try:
        return parse_request(body, length, CARD, 10_000)
    except RefusedError as error:
        refused = error
    assert 400 <= refused.status < 500
    return None


def check(request: InferRequest | None) -> None:
    if request is not None:
        assert request.frames.dtype == np.float32
        assert request.frames.shape[1:] == (2, 3)
        assert 0 <= request.wanted.classes <= 2


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300))
def test_any_bytes(body: bytes, length: int | None) -> None:
    check(parse(body, length))


@pytest.mark.slow
@given(JSON, st.binary(max_size=64), st.booleans())
def test_any_json(document: Any, binary: bytes, told: bool) -> None:  # noqa: FBT001
    text = json.dumps(document).encode()

    check(parse(text + binary, len(text) if told else None))


@pytest.mark.slow
@given(st.sampled_from(paths_of(GOOD)), JSON, st.binary(max_size=32))
def test_any_value_in_place_of_a_good_one(
    at: tuple[Any, ...], value: Any, binary: bytes
) -> None:
    text = json.dumps(replaced(GOOD, at, value)).encode()

    check(parse(text + binary, len(text)))


def test_the_good_one_is_good() -> None:
    request = parse(json.dumps(GOOD).encode(), None)

    assert request is not None
    assert request.frames.tolist() == [[[1, 2, 3], [4, 5, 6]]]


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "", "br", "é"]))
def test_any_packed_bytes(data: bytes, coding: str) -> None:
    status = 0
    try:
        assert len(unpack(data, coding, 1000)) <= 1000
    except RefusedError as refused:
        status = refused.status

    assert status in {0, 400, 413}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    return make_repository(tmp_path_factory.mktemp("models"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "X"]),
    path=st.lists(PATHS | st.text(max_size=4), max_size=6).map("/".join),
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *(b"host", b"origin", b"content-length", b"content-encoding"),
                    *(b"inference-header-content-length", b"accept-encoding", b"x"),
                ]
            ),
            st.binary(max_size=12)
            | st.sampled_from([b"gzip", b"10", b"localhost", b"deflate"]),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=80) | st.just(json.dumps(GOOD).encode()),
)
def test_any_request_to_any_path(
    models: TwinRepository,
    method: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    models.load("main")
    reply = AsgiClient(models).call(method, "/" + path, body, headers)

    assert reply.status in {200, 400, 403, 404, 405, 413, 431, 503}
    if reply.status != 200:
        assert reply.document["code"].startswith("agent.serve.")
