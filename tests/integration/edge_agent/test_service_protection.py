# SPDX-License-Identifier: Apache-2.0
"""Clients that mean ill, or break, against the real service: the rest is served."""

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.addresses import Address
from edge_agent.config import ServiceConfig, Size
from edge_agent.errors import ServeError
from tests.support.served_models import TwinRepository, make_repository
from tests.support.service import FREE, LIVE, ask, connect, receive, serve_models

INFER = (
    b"POST /v2/models/main/infer HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: %d\r\n\r\n"
)
FRAME = (
    b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], '
    b'"data": [1, 2, 3, 4]}]}'
)
WHOLE = INFER % len(FRAME) + FRAME


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    return make_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


MALFORMED = {
    "noise": bytes(range(256)) * 4,
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /v2\r\n\r\n",
    "bad length": b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "two lengths": (
        b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    ),
    "length and chunks": (
        b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2"
        b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "folded header": b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\x00b\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_gets_a_clean_refusal(
    models: TwinRepository, parser: str, name: str
) -> None:
    with serve_models(models, parser=parser) as server:
        with connect(server) as client:
            status, body = ask(client, MALFORMED[name])
        with connect(server) as client:
            after, _ = ask(client, LIVE)

    assert 400 <= status < 500
    assert b'"code": "agent.serve' in body
    assert after == 200


def test_an_endless_head_is_refused(models: TwinRepository, parser: str) -> None:
    with serve_models(models, parser=parser) as server, connect(server) as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n")
        status = 0
        with contextlib.suppress(ConnectionError):
            for number in range(400):
                client.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
            status, _ = receive(client)

    # The refusal may be lost behind what we still sent: then the connection is reset.
    assert status in {0, 400, 431}


def test_a_slow_loris_is_let_go(models: TwinRepository, parser: str) -> None:
    with serve_models(models, parser=parser, patience_seconds=0.4) as server:
        with connect(server) as silent, connect(server) as slow:
            slow.sendall(b"GET /v2 HTTP/1.1\r\n")
            start = time.monotonic()
            status, body = receive(slow)
            ended = receive(silent)
            waited = time.monotonic() - start
        with connect(server) as client:
            assert ask(client, LIVE)[0] == 200

    assert (status, ended) == (408, (0, b""))
    assert b"agent.serve.timeout" in body
    assert waited < 5


def test_a_trickling_head_is_let_go(models: TwinRepository, parser: str) -> None:
    with (
        serve_models(models, parser=parser, patience_seconds=0.4) as server,
        connect(server) as client,
    ):
        client.settimeout(0.05)
        answer = b""
        for byte in LIVE * 3:
            with contextlib.suppress(TimeoutError):
                client.sendall(bytes([byte]))
                answer = client.recv(4096)
                break

    assert answer.startswith(b"HTTP/1.1 408")


def test_a_body_that_never_ends_is_let_go(models: TwinRepository, parser: str) -> None:
    with (
        serve_models(models, parser=parser, patience_seconds=0.4) as server,
        connect(server) as client,
    ):
        assert ask(client, WHOLE)[0] == 200  # a connection that was good before
        status, body = ask(client, INFER % 1000 + b"{")

    assert status == 408
    assert b"agent.serve.timeout" in body


def test_an_answer_that_nobody_reads_is_dropped(
    models: TwinRepository, parser: str, tmp_path: Path
) -> None:
    config = ServiceConfig(http=FREE, unix=tmp_path / "s")  # of small buffers
    with (
        serve_models(models, config, parser=parser, patience_seconds=0.4) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(str(tmp_path / "s"))
        client.settimeout(0.2)
        with pytest.raises(ConnectionError):  # noqa: PT012 - it takes some rounds
            for _ in range(1000):
                with contextlib.suppress(TimeoutError):
                    client.sendall(LIVE * 500)
        with connect(server) as other:
            after, _ = ask(other, LIVE)

    assert after == 200


def test_a_kept_connection_outlives_patience(
    models: TwinRepository, parser: str
) -> None:
    with (
        serve_models(models, parser=parser, patience_seconds=0.2) as server,
        connect(server) as client,
    ):
        assert ask(client, LIVE)[0] == 200
        time.sleep(0.6)
        assert ask(client, LIVE)[0] == 200


def test_pipelined_requests_are_answered_in_order(
    models: TwinRepository, parser: str
) -> None:
    with serve_models(models, parser=parser) as server, connect(server) as client:
        absent = LIVE.replace(b"live", b"none")
        client.sendall(LIVE + absent + LIVE)
        got = b""
        while got.count(b"HTTP/1.1 ") < 3 or not got.endswith(b"}"):
            got += client.recv(65536)

    statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"]


def test_an_oversized_body_is_refused_before_it_is_read(
    models: TwinRepository, parser: str
) -> None:
    with serve_models(models, parser=parser) as server, connect(server) as client:
        status, body = ask(client, INFER % 2**40)

    assert status == 413
    assert b"service.max_request" in body


def test_a_chunked_body_is_bounded_too(models: TwinRepository, parser: str) -> None:
    config = ServiceConfig(http=FREE, max_request=Size(1000))
    head = (
        b"POST /v2/models/main/infer HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    with (
        serve_models(models, config, parser=parser) as server,
        connect(server) as client,
    ):
        status, _ = ask(client, head + b"3e8\r\n" + bytes(1000) + b"\r\n1\r\n \r\n")

    assert status == 413


def test_a_client_that_leaves_disturbs_nobody(
    models: TwinRepository, parser: str
) -> None:
    with serve_models(models, parser=parser) as server:
        for data in (b"", b"G", INFER % 100, INFER % 100 + b"{", WHOLE):
            with connect(server) as client:
                client.sendall(data)
        with connect(server) as client:
            assert ask(client, WHOLE)[0] == 200


def test_a_long_model_does_not_stall_health_checks(tmp_path: Path, parser: str) -> None:
    models = make_repository(tmp_path, pause_seconds=0.3)
    with serve_models(models, parser=parser) as server:
        with connect(server) as client:
            assert ask(client, WHOLE)[0] == 200  # how long it takes is known now
        with connect(server) as busy, connect(server) as client:
            busy.sendall(WHOLE)
            waits = []
            for _ in range(5):
                start = time.monotonic()
                assert ask(client, LIVE)[0] == 200
                waits.append(time.monotonic() - start)
            assert receive(busy)[0] == 200

    assert min(waits) < 0.15


def test_connections_beyond_the_cap_make_room(
    models: TwinRepository, parser: str
) -> None:
    config = ServiceConfig(http=FREE, connections=8)
    with (
        serve_models(models, config, parser=parser) as server,
        contextlib.ExitStack() as stack,
    ):
        crowd = [stack.enter_context(connect(server)) for _ in range(40)]
        with connect(server) as client:
            assert ask(client, WHOLE)[0] == 200
        assert [one.recv(1) for one in crowd[:8]] == [b""] * 8


def test_a_request_that_is_computed_is_not_pushed_out(
    tmp_path: Path, parser: str
) -> None:
    models = make_repository(tmp_path, pause_seconds=0.5)
    config = ServiceConfig(http=FREE, connections=2)
    with (
        serve_models(models, config, parser=parser) as server,
        contextlib.ExitStack() as stack,
    ):
        busy = [stack.enter_context(connect(server)) for _ in range(2)]
        for one in busy:
            one.sendall(WHOLE)
        time.sleep(0.2)
        with connect(server) as late:
            refused, body = receive(late)
        served = [receive(one)[0] for one in busy]

    assert (refused, served) == (503, [200, 200])
    assert b"too many connections" in body


@pytest.mark.slow
def test_ten_thousand_connections(models: TwinRepository) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(10_200, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        _crowd(models, 10_000 if most == 10_200 else most - 200)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _crowd(models: TwinRepository, count: int) -> None:
    """Open connections that stay, while one client asks all the time."""
    answers: list[int] = []
    done = threading.Event()
    with serve_models(models) as server, contextlib.ExitStack() as stack:

        def ask_always() -> None:
            while not done.is_set():
                with contextlib.suppress(ConnectionError), connect(server) as client:
                    answers.append(ask(client, WHOLE)[0])

        asker = threading.Thread(target=ask_always)
        asker.start()
        try:
            for _ in range(count):
                stack.enter_context(connect(server))
        finally:
            done.set()
            asker.join()
        for _ in range(20):
            with connect(server) as client:
                answers.append(ask(client, WHOLE)[0])

    assert answers[-20:] == [200] * 20
    assert len(answers) > 20
    # 0: pushed out between its connection and its request.
    assert set(answers) <= {0, 200}


def test_a_taken_port_is_refused_and_leaves_nothing(
    models: TwinRepository, tmp_path: Path
) -> None:
    path = tmp_path / "agent.sock"
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = Address("127.0.0.1", holder.getsockname()[1])
        config = ServiceConfig(http=address, unix=path)
        with (
            pytest.raises(ServeError, match="Address already in use"),
            serve_models(models, config),
        ):
            pytest.fail("it started")

    assert not path.exists()
    assert "edge-serve-http" not in {one.name for one in threading.enumerate()}


def test_stop_answers_what_is_being_computed(tmp_path: Path, parser: str) -> None:
    models = make_repository(tmp_path, pause_seconds=0.5)
    with contextlib.ExitStack() as stack:
        with serve_models(models, parser=parser) as server:
            client = stack.enter_context(connect(server))
            client.sendall(WHOLE)
            time.sleep(0.2)
        status, body = receive(client)

    assert status == 200
    assert b'"outputs"' in body


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    names = {one.name for one in threading.enumerate()}
    assert not [name for name in names if name.startswith("edge-serve")]
