# SPDX-License-Identifier: Apache-2.0
"""systemd's notify protocol, against a real socket."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.daemon.notify import Notifier


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(5)
        yield ear


def hear(ear: socket.socket) -> str:
    return ear.recv(4096).decode()


def test_every_word_of_the_protocol(ear: socket.socket) -> None:
    with closing(Notifier(ear.getsockname(), "30000000")) as notifier:
        notifier.extend(7)
        notifier.ready()
        notifier.status("main: toy@3f2a 41/s\nqueue=0")
        notifier.alive()
        notifier.reloading(99)
        notifier.stopping()

        assert notifier.watchdog_us == 30_000_000
    assert [hear(ear) for _ in range(6)] == [
        "EXTEND_TIMEOUT_USEC=7",
        "READY=1",
        "STATUS=main: toy@3f2a 41/s queue=0",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=99",
        "STOPPING=1",
    ]


def test_an_abstract_socket_is_written_with_an_at() -> None:
    name = f"edge-agent-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        ear.bind("\0" + name)
        ear.settimeout(5)
        with closing(Notifier("@" + name)) as notifier:
            notifier.ready()
        assert hear(ear) == "READY=1"


def test_without_a_service_manager_nothing_is_sent() -> None:
    for address in (None, ""):
        with closing(Notifier(address)) as notifier:
            notifier.ready()
            assert notifier.watchdog_us == 0


def test_a_manager_that_is_gone_or_deaf_stops_nothing(
    ear: socket.socket, tmp_path: Path
) -> None:
    with closing(Notifier(ear.getsockname())) as notifier:
        for _ in range(10_000):  # until the socket is full, and beyond
            notifier.alive()
        (tmp_path / "notify").unlink()
        notifier.alive()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("5000000", None, 5_000_000),
        pytest.param("5000000", str(os.getpid()), 5_000_000, id="own"),
        ("5000000", "1", 0),
        ("soon", None, 0),
        ("-5", None, 0),
        ("٣", None, 0),
        (None, None, 0),
    ],
)
def test_the_watchdog_is_for_this_process(
    usec: str | None, pid: str | None, expected: int
) -> None:
    assert Notifier(None, usec, pid).watchdog_us == expected
