# SPDX-License-Identifier: Apache-2.0
import socket
import stat
from pathlib import Path

import pytest

from edge_agent.addresses import Address
from edge_agent.errors import ServeError
from edge_agent.serve.listen import open_loopback, open_unix


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:1", Address("127.0.0.1", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("127.9.9.9:0", Address("127.9.9.9", 0)),
    ],
)
def test_loopback_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0:8080", "expected a loopback address"),
        ("192.168.1.4:8080", "expected a loopback address"),
        ("[::]:8080", "expected a loopback address"),
        ("example.com:80", "expected a loopback address"),
        (":8080", "expected a loopback address"),
        ("8080", "expected an address like"),
        ("127.0.0.1:", "expected an address like"),
        ("127.0.0.1:http", "expected an address like"),
        ("127.0.0.1:²", "expected an address like"),
        ("127.0.0.1:65536", "expected a port up to 65535"),
        (8080, "expected an address like"),
        (None, "expected an address like"),
    ],
)
def test_other_addresses_are_refused(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Address.parse(text)


def test_a_taken_port_is_named() -> None:
    with open_loopback(Address("127.0.0.1", 0)) as first:
        first.listen()
        port = first.getsockname()[1]

        with pytest.raises(ServeError, match=f"127.0.0.1:{port}: Address already"):
            open_loopback(Address("127.0.0.1", port))


def test_the_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"

    with open_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_stale_socket_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    open_unix(path).close()  # as a killed agent leaves it

    with open_unix(path) as listener:
        listener.listen()
        with pytest.raises(ServeError, match="another program listens there"):
            open_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_another_file_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious")

    with pytest.raises(ServeError, match="found another file"):
        open_unix(path)

    assert path.read_text() == "precious"


def test_an_impossible_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="at most 107 bytes"):
        open_unix(tmp_path / ("x" * 108))
    with pytest.raises(ServeError, match="No such file"):
        open_unix(tmp_path / "none" / "s")
