# SPDX-License-Identifier: Apache-2.0
"""What a request to the local service costs, beside FastAPI around the same model.

Each server runs in a process of its own; one client, on a kept connection, asks them in
turn, so that a change of the machine's speed meets all. The client is a plain socket
that sends a prepared request and reads the answer: what a client library costs is not
the server's. Promised: binary at 16 floats within 0.6 ms over TCP and over the Unix
socket, a tensor of 602 KB (1x3x224x224) within 1.5 ms, medians.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.service_process import OneModel

SMALL = 16
LARGE = 3 * 224 * 224
WARM = 30
ROUNDS = {SMALL: 1500, LARGE: 300}
JSON_ROUNDS = 9


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        name: Which.
        address: What to connect to: host and port, or the path of a socket.
        floats: Its model's input.
    """

    name: str
    address: tuple[str, int] | str
    floats: int


def run() -> Document:
    """Measure both sizes, both transports, both forms, both parsers."""
    rows: list[Row] = []
    for floats, most_us in ((SMALL, 600.0), (LARGE, 1500.0)):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers = _start_all(stack, folder, floats)
            rows += _measure_binary(servers, floats, most_us)
            rows.append(_measure_model(floats))
            rows += _measure_json(servers, floats)
    return make_document("agent_service", rows)


def _start_all(stack: ExitStack, folder: Path, floats: int) -> dict[str, Server]:
    options: dict[str, Mapping[str, Any]] = {
        "ours": {},
        "ours, h11": {"parser": "h11"},
        "ours, beside the loop": {"inline_ns": 0},
        "FastAPI": {},
    }
    servers = {}
    for name, option in options.items():
        kind = "fastapi" if name == "FastAPI" else "ours"
        found = stack.enter_context(_start(kind, folder, floats, option))
        servers[name] = Server(name, ("127.0.0.1", found["port"]), floats)
        if name == "ours":
            servers["ours, Unix socket"] = Server(name, found["unix"], floats)
    return servers


@contextmanager
def _start(
    kind: str, folder: Path, floats: int, option: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    command = [
        *(sys.executable, "-m", "bench.harness.service_process"),
        *(kind, str(folder), str(floats), json.dumps(option)),
    ]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None  # noqa: S101 - by PIPE
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def _measure_binary(
    servers: Mapping[str, Server], floats: int, most_us: float
) -> list[Row]:
    requests = {
        name: _raw_request() if name == "FastAPI" else _binary_request(floats)
        for name in servers
    }
    bodies = np.random.default_rng(1).normal(size=floats).astype("<f4").tobytes()
    samples = _ask_in_turn(
        servers,
        {name: head(bodies) for name, head in requests.items()},
        ROUNDS[floats],
    )
    promised = ("ours", "ours, Unix socket")
    return [
        _row(f"binary, {_size(floats)}: {name}", samples, name, most_us)
        if name in promised
        else _row(f"binary, {_size(floats)}: {name}", samples, name)
        for name in servers
        if name != "FastAPI"
    ]


def _measure_model(floats: int) -> Row:
    """Measure the model alone, which is in all of the figures."""
    model, frame = OneModel(floats), np.ones((1, floats), np.float32)
    samples = []
    for _ in range(ROUNDS[floats]):
        start = time.perf_counter_ns()
        model.infer(frame, "")
        samples.append((time.perf_counter_ns() - start) / 1000)
    value, n, spread = summarise(samples)
    return Row(f"the model alone, {_size(floats)}", value, "us", n=n, spread=spread)


def _measure_json(servers: Mapping[str, Server], floats: int) -> list[Row]:
    """Measure the same as JSON, with the bound on JSON raised."""
    data = np.random.default_rng(1).normal(size=floats).astype(np.float32).tolist()
    chosen = {name: servers[name] for name in ("ours", "FastAPI")}
    requests = {
        "ours": _post(_infer_path(), _document(floats, {"data": data})),
        "FastAPI": _post("/json", json.dumps({"data": data}).encode()),
    }
    rounds = ROUNDS[SMALL] if floats == SMALL else JSON_ROUNDS
    samples = _ask_in_turn(chosen, requests, rounds)
    return [_row(f"JSON, {_size(floats)}: ours", samples, "ours")]


def _row(
    case: str,
    samples: Mapping[str, list[float]],
    name: str,
    most_us: float | None = None,
) -> Row:
    value, n, spread = summarise(samples[name])
    baseline, _, _ = summarise(samples["FastAPI"])
    return Row(
        case,
        value,
        "us",
        baseline,
        value / baseline,
        n,
        spread,
        None if most_us is None else f"<= {most_us:g} us",
        None if most_us is None else value <= most_us,
    )


def _ask_in_turn(
    servers: Mapping[str, Server], requests: Mapping[str, bytes], rounds: int
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in servers}
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(_connect(one.address))
            for name, one in servers.items()
        }
        for number in range(rounds + min(WARM, rounds // 3)):
            for name, client in clients.items():
                start = time.perf_counter_ns()
                client.sendall(requests[name])
                status = _receive(client)
                spent_us = (time.perf_counter_ns() - start) / 1000
                if status != b"200":
                    raise RuntimeError(f"{name}: expected status 200, found {status!r}")
                if number >= min(WARM, rounds // 3):
                    samples[name].append(spent_us)
    return samples


def _connect(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address)
        return client
    client = socket.create_connection(address)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _receive(client: socket.socket) -> bytes:
    got = client.recv(65536)
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = (int(one[15:]) for one in lines if one.startswith(b"content-length:"))
    have = len(body)
    while have < length:
        have += len(client.recv(65536))
    return head.split()[1]


def _binary_request(floats: int) -> Any:
    size = {"parameters": {"binary_data_size": floats * 4}}
    text = _document(floats, size, {"binary_data_output": True})
    told = f"Inference-Header-Content-Length: {len(text)}\r\n"
    return lambda body: _post(_infer_path(), text + body, told)


def _raw_request() -> Any:
    return lambda body: _post("/binary", body)


def _infer_path() -> str:
    return "/v2/models/main/infer"


def _document(
    floats: int, tensor: Mapping[str, Any], parameters: Mapping[str, Any] | None = None
) -> bytes:
    shape = [1, floats]
    document = {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": shape, **tensor}],
        "parameters": parameters or {},
    }
    return json.dumps(document).encode()


def _post(path: str, body: bytes, headers: str = "") -> bytes:
    kind = "application/octet-stream" if headers else "application/json"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _size(floats: int) -> str:
    return f"{floats} floats" if floats == SMALL else f"{floats * 4 // 1000} KB"


if __name__ == "__main__":
    write_document(run())
