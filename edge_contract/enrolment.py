# SPDX-License-Identifier: Apache-2.0
"""Enrolment files: all that a device needs to belong to a fleet.

Owns docs/spec/enrolment.md. The file holds the device's key: it is written with mode
0600, and whoever reads it deletes it. Key and trust root are secrets of different
kinds; neither is ever logged.
"""

import base64
import json
import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_contract.errors import EnrolmentError, KeyFormatError, TopicError
from edge_contract.keys import KEY_BYTES, DeviceKeys
from edge_contract.topics import check_device_id, check_fleet_id

FORMAT: Final = 1
MAX_ENROLMENT_BYTES: Final = 512 * 1024


@dataclass(frozen=True)
class Enrolment:
    """What ``edge-fleet device add`` writes and ``edge-agent enrol`` installs.

    ``certificate_pin`` is the SHA-256 of the server's certificate in hex; None means
    plain HTTP and MQTT, which is accepted on loopback only.
    """

    fleet: str
    device: str
    key: bytes = field(repr=False)
    epoch: int
    tuf_root: bytes = field(repr=False)
    broker_host: str
    broker_port: int
    api_url: str
    certificate_pin: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> DeviceKeys:
        """The derived keys."""
        return DeviceKeys.from_device_key(self.key, self.epoch)

    def to_json(self) -> bytes:
        """Encode as JSON for a file."""
        wire = {
            "format": FORMAT,
            "fleet": self.fleet,
            "device": self.device,
            "key": base64.b64encode(self.key).decode(),
            "epoch": self.epoch,
            "tuf_root": base64.b64encode(self.tuf_root).decode(),
            "broker": {"host": self.broker_host, "port": self.broker_port},
            "api_url": self.api_url,
            "certificate_pin": self.certificate_pin,
            "tags": self.tags,
        }
        return json.dumps(wire, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Enrolment":
        """Parse an enrolment file.

        Raises:
            EnrolmentError: Malformed or too large.
        """
        try:
            return _from_wire(_load_bounded(data))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            TopicError,
            KeyFormatError,
        ) as error:
            msg = f"enrolment file: malformed: {type(error).__name__}: {error}"
            raise EnrolmentError(
                msg, next_step="write a new one with `edge-fleet device add`"
            ) from error

    def save(self, path: Path) -> None:
        """Write a new file with mode 0600; an existing one is never overwritten.

        Raises:
            OSError: It exists already, or the disk refused.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(self.to_json())
            stream.flush()
            os.fsync(stream.fileno())


def _load_bounded(data: bytes) -> Any:
    if len(data) > MAX_ENROLMENT_BYTES:
        msg = f"longer than {MAX_ENROLMENT_BYTES} bytes"
        raise ValueError(msg)
    return json.loads(data)


def _from_wire(wire: Any) -> Enrolment:
    if wire["format"] != FORMAT:
        msg = f"expected format {FORMAT}, found {wire['format']!r}"
        raise ValueError(msg)
    port, pin = wire["broker"]["port"], wire["certificate_pin"]
    url = urllib.parse.urlsplit(wire["api_url"])
    enrolment = Enrolment(
        fleet=check_fleet_id(wire["fleet"]),
        device=check_device_id(wire["device"]),
        key=base64.b64decode(wire["key"], validate=True),
        epoch=wire["epoch"],
        tuf_root=base64.b64decode(wire["tuf_root"], validate=True),
        broker_host=wire["broker"]["host"],
        broker_port=port,
        api_url=wire["api_url"],
        certificate_pin=pin,
        tags={str(key): str(value) for key, value in wire["tags"].items()},
    )
    if len(enrolment.key) != KEY_BYTES or url.scheme not in {"http", "https"}:
        msg = "expected a key of 32 bytes and an http or https address"
        raise ValueError(msg)
    if type(port) is not int or not 0 < port < 65536:
        msg = f"expected a port, found {port!r}"
        raise ValueError(msg)
    if type(enrolment.broker_host) is not str or (
        pin is not None and type(pin) is not str
    ):
        msg = "expected a host name and a certificate pin"
        raise TypeError(msg)
    _ = enrolment.keys  # refuses a bad epoch
    return enrolment
