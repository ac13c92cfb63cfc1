# SPDX-License-Identifier: Apache-2.0
"""The wire between a device and a server, in the hands of somebody else.

``Wire`` carries bytes of any protocol and can be cut or go silent. ``MqttWire`` reads
MQTT 5 on the way and hands each PUBLISH to a thief, who may drop, alter, repeat or keep
it. Sender and receiver notice nothing: what is dropped is confirmed all the same.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Self

_PUBLISH, _PUBACK = 3, 4
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Publish:
    """One PUBLISH packet."""

    topic: str
    payload: bytes
    flags: int  # DUP, QoS and RETAIN, as in the packet's first byte
    packet_id: int
    properties: bytes = b""
    to_broker: bool = True

    @property
    def qos(self) -> int:
        """Its quality of service."""
        return self.flags >> 1 & 3

    def extra(self) -> "Publish":
        """Return a copy that asks for no confirmation: nobody waits for one."""
        return replace(self, flags=0, packet_id=0, properties=b"")

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        topic = self.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic
        if self.qos:
            body += self.packet_id.to_bytes(2, "big")
        body += _varint(len(self.properties)) + self.properties + self.payload
        return bytes([_PUBLISH << 4 | self.flags]) + _varint(len(body)) + body

    @classmethod
    def decode(cls, head: int, body: bytes, *, to_broker: bool) -> "Publish":
        """Read a packet."""
        size = int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + size].decode(), 2 + size
        packet_id = 0
        if head >> 1 & 3:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        length, at = _read_varint(body, at)
        properties, payload = body[at : at + length], body[at + length :]
        return cls(topic, payload, head & 15, packet_id, properties, to_broker)


class _End:
    """One end of a connection; several threads send to it."""

    def __init__(self, end: socket.socket, *, is_device: bool) -> None:
        self.socket = end
        self.is_device = is_device
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        with self._lock:
            self.socket.sendall(data)


Thief = Callable[[Publish], Sequence[Publish]]


class Wire:
    """Listens on a loopback port and forwards to ``port``; a context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self._flows.set()
        # A blocking accept is not ended by close: knock once.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join()
        self._listener.close()
        self.reset()

    def cut(self) -> None:
        """Break every connection, and let none through until ``mend``."""
        self._is_cut = True
        self.reset()

    def silence(self) -> None:
        """Carry nothing more, and tell nobody, until ``mend``."""
        self._flows.clear()

    def mend(self) -> None:
        """Carry everything again."""
        self._is_cut = False
        self._flows.set()

    def reset(self) -> None:
        """Break the connections of now."""
        with self._lock:
            connections = list(self._open)
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._is_closed:
                client.close()
                return
            try:
                if self._is_cut:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._target), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            near, far = _End(client, is_device=True), _End(server, is_device=False)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._carry, args=(source, sink), daemon=True
                ).start()

    def _carry(self, source: "_End", sink: "_End") -> None:
        try:
            for data in self._pieces(source):
                self._flows.wait()
                sink.send(data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sink.socket.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(source.socket)
            source.socket.close()

    def _pieces(self, source: "_End") -> Iterator[bytes]:
        while data := source.socket.recv(1 << 16):
            yield data


class MqttWire(Wire):
    """A wire whose thief sees every PUBLISH.

    Args:
        port: The broker's.
        thief: Returns what goes on in place of a packet; the first one confirms it.
    """

    def __init__(self, port: int, thief: Thief | None = None) -> None:
        super().__init__(port)
        self.thief: Thief = thief or (lambda packet: [packet])
        self._devices: list[_End] = []

    def inject(self, topic: str, payload: bytes) -> None:
        """Send the device a message that no broker has seen."""
        packet = Publish(topic, payload, flags=0, packet_id=0, to_broker=False)
        for one in list(self._devices):
            try:
                one.send(packet.encode())
            except OSError:
                self._devices.remove(one)

    def _pieces(self, source: _End) -> Iterator[bytes]:
        if source.is_device:
            self._devices.append(source)
        with source.socket.makefile("rb") as stream:
            while head := stream.read(1):
                size = _read_size(stream)
                body = stream.read(size)
                if len(body) < size:
                    return
                if head[0] >> 4 == _PUBLISH:
                    yield from self._hand_over(source, head[0], body)
                else:
                    yield head + _varint(size) + body

    def _hand_over(self, source: _End, head: int, body: bytes) -> Iterator[bytes]:
        packet = Publish.decode(head, body, to_broker=source.is_device)
        passed = self.thief(packet)
        if packet.qos and not any(one.qos for one in passed):
            confirmed = packet.packet_id.to_bytes(2, "big")
            source.send(bytes([_PUBACK << 4, 2]) + confirmed)
        for one in passed:
            yield one.encode()


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _read_size(stream: BinaryIO) -> int:
    data = bytearray()
    while True:
        more = stream.read(1)
        if not more:
            return 0
        data += more
        if data[-1] < 128:
            return _read_varint(bytes(data), 0)[0]
