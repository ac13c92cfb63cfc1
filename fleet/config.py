# SPDX-License-Identifier: Apache-2.0
"""Configuration of the server and the layout of its state folder.

Owns ``fleet.yaml`` (into frozen dataclasses, unknown keys refused), and the names of
all files under the state folder. It is the only module that reads the environment. It
opens no socket and creates no file.
"""

import os
import re
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from edge_contract.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# What a second person may have to approve; an override goes on without the evidence.
APPROVABLE = ("start", "roll-back", "override")
_UNITS = ("_seconds", "_bytes")  # in our names; in YAML the value carries the unit
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where the HTTP server listens; port 0 picks a free one and remembers it.

    ``socket`` is the Unix socket for people on this machine, in the state folder unless
    named; members of ``group`` may use it, else only the server's own user.
    """

    host: str = "127.0.0.1"
    port: int = 0
    socket: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The MQTT broker: ``embedded``, or ``external`` at ``host:port``."""

    mode: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """How messages are grouped into transactions and acknowledged."""

    batch: int = 200
    delay_seconds: float = 0.05
    ack_interval_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """How rollouts go on, and what two persons have to agree on.

    ``approve`` names what a second person has to approve: ``start``, ``roll-back``,
    ``override`` (going on without the evidence).
    """

    tick_seconds: float = 1.0
    announce_spread_seconds: float = 4 * 3600.0  # at most; ten devices a second
    health_seconds: float = 30.0  # between two looks at the control cohort
    approve: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """How often the drift engine looks for new windows."""

    tick_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """Where an alert begins; it ends a tenth below, or when the cause is gone."""

    silent_seconds: float = 900.0  # three heartbeats
    births_an_hour: int = 6  # starts and reconnections
    p95_seconds: float = 1.0  # of a model without a budget of its own
    memory_percent: int = 40  # of the device's memory, by the agent alone
    temperature_celsius: int = 85
    disk_free_bytes: int = 256 << 20
    outbox_messages: int = 8000  # half of an outbox of 8 MiB
    update_seconds: float = 6 * 3600.0  # in one state that is not an end
    clock_seconds: float = 300.0
    mac_failures_an_hour: int = 5


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """A receiver of alerts over HTTP; each request is signed with the secret."""

    url: str
    secret_file: str
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class EmailConfig:
    """A mail server and who gets alerts; without ``host`` nothing is mailed."""

    host: str = ""
    port: int = 587
    security: str = "starttls"
    ca_file: str = ""
    username: str = ""
    password_file: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    timeout_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """What is alerted on, and who is told beside the topic ``alert``."""

    tick_seconds: float = 10.0
    clear_seconds: float = 300.0  # well for so long before an alert ends
    keep_seconds: float = 90 * 86400.0
    limits: AlertLimits = field(default_factory=AlertLimits)
    budgets_seconds: dict[str, float] = field(default_factory=dict)  # p95, by model
    webhooks: dict[str, WebhookConfig] = field(default_factory=dict)
    email: EmailConfig = field(default_factory=EmailConfig)


@dataclass(frozen=True, slots=True)
class SamplesConfig:
    """Bounds of what devices may upload."""

    max_chunk_bytes: int = 1 << 20
    max_chunks: int = 64


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """One program that the server may run, without a shell."""

    command: tuple[str, ...]
    timeout_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """All that ``fleet.yaml`` may say, with its defaults."""

    fleets: tuple[str, ...] = ("default",)
    listen: ListenConfig = field(default_factory=ListenConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    pipelines: dict[str, PipelineConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateLayout:
    """The files of a state folder."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration file; optional."""
        return self.root / "fleet.yaml"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.root / "fleet.sqlite"

    @property
    def master_key(self) -> Path:
        """The key from which the keys of all devices derive (0600)."""
        return self.root / "master.key"

    @property
    def online_keys(self) -> Path:
        """Keys that the server signs with."""
        return self.root / "keys" / "online"

    @property
    def offline_keys(self) -> Path:
        """Keys that the server never reads; meant to be moved elsewhere."""
        return self.root / "keys" / "offline"

    @property
    def builder_key(self) -> Path:
        """The key that signs bundles and the list of releases (0600)."""
        return self.offline_keys / "models.pem"

    @property
    def builder_public(self) -> Path:
        """Its public half."""
        return self.root / "keys" / "models.pub"

    @property
    def tuf(self) -> Path:
        """The TUF repository: ``metadata`` and ``targets``."""
        return self.root / "tuf"

    @property
    def samples(self) -> Path:
        """Samples that devices sent."""
        return self.root / "samples"

    @property
    def runs(self) -> Path:
        """A folder a pipeline run."""
        return self.root / "runs"

    @property
    def broker(self) -> Path:
        """Files of the embedded broker."""
        return self.root / "broker"

    @property
    def ports(self) -> Path:
        """Ports that were picked at the first start and are kept."""
        return self.root / "ports.json"

    @property
    def run(self) -> Path:
        """What a running server tells the command line (0600)."""
        return self.root / "run.json"

    @property
    def socket(self) -> Path:
        """The Unix socket, unless the configuration names another."""
        return self.root / "edge-fleet.sock"

    @property
    def lock(self) -> Path:
        """Held by the one server on this state folder."""
        return self.root / "lock"


def load_config(path: Path) -> FleetConfig:
    """Read ``path``; a file that is absent means the defaults.

    Raises:
        ConfigError: The file is not YAML, has an unknown key or a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return FleetConfig()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: expected a readable text file, found: {error}"
        raise ConfigError(message, next_step="check the file's permissions") from error
    return parse_config(text, name=path.name)


def parse_config(text: str, *, name: str) -> FleetConfig:
    """Parse the text of a configuration file called ``name``.

    Raises:
        ConfigError: The text is not YAML, has an unknown key or a wrong value.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        message = f"{name}: expected YAML, found: {error}"
        raise ConfigError(message, next_step="correct the syntax") from error
    root = {} if document is None else document
    config = _structure_dataclass(root, FleetConfig, (name, ""))
    if config.broker.mode not in {"embedded", "external"}:
        raise _wrong((name, "broker.mode"), "embedded or external", config.broker.mode)
    for action in config.rollout.approve:
        if action not in APPROVABLE:
            expected = f"one of {', '.join(APPROVABLE)}"
            raise _wrong((name, "rollout.approve"), expected, action)
    _check_alerts(config.alerts, name)
    return config


def _check_alerts(alerts: AlertsConfig, name: str) -> None:
    for key, hook in alerts.webhooks.items():
        if not hook.url.startswith(("https://", "http://")):
            where = (name, f"alerts.webhooks.{key}.url")
            raise _wrong(where, "an https or http address", hook.url)
    email = alerts.email
    if email.security not in {"starttls", "tls", "none"}:
        where = (name, "alerts.email.security")
        raise _wrong(where, "starttls, tls or none", email.security)
    if email.host and not (email.sender and email.recipients):
        where = (name, "alerts.email")
        raise _wrong(where, "also sender and recipients", "a host alone")
    if email.username and not email.password_file:
        where = (name, "alerts.email.password_file")
        raise _wrong(where, "the file with the password of username", "none")
    if email.username and email.security == "none":
        where = (name, "alerts.email.security")
        raise _wrong(where, "starttls or tls where a password is sent", "none")


def minimal_environment() -> dict[str, str]:
    """Return the only variables that a pipeline's program inherits."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}


def set_pkcs11_module(path: str) -> None:
    """Say which PKCS#11 library to load: securesystemslib reads it there alone."""
    os.environ["PYKCS11LIB"] = path


def _structure(value: Any, kind: Any, where: tuple[str, str], name: str = "") -> Any:
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _structure_dataclass(value, kind, where)
    if origin is tuple:
        _expect(value, list, where, "a list")
        item = get_args(kind)[0]
        return tuple(
            _structure(part, item, _below(where, i), name)
            for i, part in enumerate(value)
        )
    if origin is dict:
        _expect(value, dict, where, "a mapping")
        item = get_args(kind)[1]
        return {
            str(key): _structure(part, item, _below(where, key), name)
            for key, part in value.items()
        }
    if name.endswith("_seconds"):
        return _parse_duration(value, where)
    if name.endswith("_bytes"):
        return _parse_size(value, where)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise _wrong(where, "a whole number" if kind is int else "a text", value)
    return value


def _structure_dataclass(value: Any, kind: type[_T], where: tuple[str, str]) -> _T:
    _expect(value, dict, where, "a mapping")
    hints = get_type_hints(kind)
    known = {_yaml_key(name): name for name in hints}
    for key in value:
        if key not in known:
            expected = f"one of {', '.join(sorted(known))}"
            raise _wrong(_below(where, key), expected, "an unknown key")
    parts = {
        known[key]: _structure(part, hints[known[key]], _below(where, key), known[key])
        for key, part in value.items()
    }
    try:
        return kind(**parts)
    except TypeError as error:
        missing = ", ".join(sorted(set(known) - set(value)))
        raise _wrong(where, f"also {missing}", "none") from error


def _yaml_key(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name


def _parse_duration(value: Any, where: tuple[str, str]) -> float:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong(where, "a duration like 60s", value)
    return float(match[1]) * _SECONDS[match[2]]


def _parse_size(value: Any, where: tuple[str, str]) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong(where, "a size like 64MiB", value)
    return int(match[1]) * _BYTES[match[2]]


def _expect(value: Any, kind: type, where: tuple[str, str], wanted: str) -> None:
    if not isinstance(value, kind):
        raise _wrong(where, wanted, value)


def _below(where: tuple[str, str], key: object) -> tuple[str, str]:
    return where[0], f"{where[1]}.{key}" if where[1] else str(key)


def _wrong(where: tuple[str, str], expected: str, found: object) -> ConfigError:
    place = where[1] or "the document"
    message = f'{where[0]}: {place}: expected {expected}, got "{found}"'
    return ConfigError(message, next_step=f"correct {place} in {where[0]}")
