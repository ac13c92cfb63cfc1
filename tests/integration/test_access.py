# SPDX-License-Identifier: Apache-2.0
"""The certificate pin against real TLS: the pinned server, and one that is not."""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import urllib3

from edge_agent.access import HttpAccess
from edge_agent.errors import LinkError
from edge_agent.telemetry.mqtt import BrokerAccess, PahoTransport, Will
from edge_contract.enrolment import Enrolment
from tests.support.certificates import make_certificate
from tests.support.mqtt_broker import free_port


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    pin = make_certificate(tmp_path / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = HTTPServer(("127.0.0.1", free_port()), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], pin
    server.shutdown()
    thread.join()
    server.server_close()


def enrolment(port: int, pin: str | None) -> Enrolment:
    url = f"https://127.0.0.1:{port}"
    return Enrolment("default", "d", bytes(32), 1, b"{}", "127.0.0.1", port, url, pin)


def test_http_goes_to_the_pinned_server_only(tls_server: tuple[int, str]) -> None:
    port, pin = tls_server
    response = HttpAccess.of(enrolment(port, pin)).request(
        "GET", f"https://127.0.0.1:{port}/"
    )
    assert response.read() == b"ok"
    response.release_conn()
    response.close()
    access = HttpAccess.of(enrolment(port, "ab" * 32))
    with pytest.raises(urllib3.exceptions.SSLError, match=r"[Ff]ingerprint"):
        access.request("GET", f"https://127.0.0.1:{port}/")


def test_https_needs_a_pin() -> None:
    with pytest.raises(LinkError, match="certificate pin"):
        HttpAccess.of(enrolment(1, None))


class Deaf:
    """A handler that nothing may reach."""

    def on_ready(self) -> None:
        raise AssertionError

    def on_taken(self, ticket: int, *, accepted: bool) -> None:
        raise AssertionError(ticket, accepted)

    def on_message(self, topic: str, payload: bytes) -> None:
        raise AssertionError(topic, payload)

    def on_lost(self, reason: str) -> None:
        raise AssertionError(reason)


def listen(port: int, chain: Path, heard: list[bytes]) -> threading.Thread:
    """Take one TLS connection and keep the first bytes that come over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    ready = threading.Event()

    def run() -> None:
        with socket.create_server(("127.0.0.1", port)) as listener:
            ready.set()
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                try:
                    heard.append(connection.recv(4096))
                except OSError:
                    heard.append(b"")

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    return thread


@pytest.mark.parametrize("is_right", [True, False], ids=["pinned", "another"])
def test_the_broker_password_goes_to_the_pinned_broker_only(
    tmp_path: Path,
    *,
    is_right: bool,
) -> None:
    pin = make_certificate(tmp_path / "broker.pem")
    port, heard = free_port(), list[bytes]()
    thread = listen(port, tmp_path / "broker.pem", heard)
    access = BrokerAccess(
        "127.0.0.1", port, "d", "the-password", pin if is_right else "ab" * 32
    )
    transport = PahoTransport(access, Deaf())
    will = Will("edge/1/default/d/state", b"x")
    if is_right:
        transport.connect(will, ())
    else:
        with pytest.raises(LinkError, match="expected the certificate"):
            transport.connect(will, ())
    thread.join(10)
    assert (b"the-password" in heard[0]) is is_right
    transport._client.on_disconnect = None
    transport.close()


def test_plain_mqtt_is_for_loopback_only() -> None:
    with pytest.raises(LinkError, match="loopback only"):
        PahoTransport(BrokerAccess("192.0.2.1", 1883, "d", "p"), Deaf())
