# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: a YAML file into frozen values, refused by name.

Owns every key, its default and its form; configs/agent.yaml is the commented sample.
The only module that reads the environment: ``${NAME}`` in a text is replaced by the
variable. Addresses and keys are not here: they come with the enrolment.
"""

import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args, get_origin

import cattrs
import yaml
from cattrs.errors import ForbiddenExtraKeysError

from edge_contract.errors import ConfigError

MAX_CONFIG_BYTES: Final = 256 * 1024
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)", re.ASCII)
_DURATION_US: Final = {
    "us": 1,
    "ms": 1000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)", re.ASCII)
_SIZE_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time, written ``250ms``, ``10s``, ``5m``, ``6h`` or ``1d``."""

    us: int

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.us / 1e6

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a duration.

        >>> Duration.parse("1.28s").us
        1280000
        """
        found = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise _wrong("a duration like 10s or 5m", text)
        us = round(float(found[1]) * _DURATION_US[found[2]])
        if us <= 0:
            raise _wrong("a duration above zero", text)
        return cls(us)


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, written ``512KiB`` or ``8MiB``."""

    bytes: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a size.

        >>> Size.parse("8MiB").bytes
        8388608
        """
        found = _SIZE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise _wrong("a size like 512KiB or 8MiB", text)
        return cls(int(found[1]) * _SIZE_BYTES[found[2]])


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model serves, and how much of the machine it may use."""

    slot: str = "main"
    threads: int = 1
    device_profile: str = "auto"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where rows come from; ``rate`` is frames a second, 0 as fast as possible."""

    path: Path
    type: Literal["file"] = "file"
    sample_rate_hz: float = 50.0
    rate: float = 10.0
    order: Literal["interleaved", "sequential"] = "interleaved"
    repeat: bool = True
    follow: bool = True


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """Where results go."""

    path: Path
    type: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class StatisticsConfig:
    """Length of a window in event time, and how often the open one is made durable."""

    window: Duration = Duration(300_000_000)
    checkpoint: Duration = Duration(10_000_000)


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """How many bytes wait for the server before windows are merged."""

    max: Size = Size(8 * 1024**2)


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """How often to look for updates unasked, and how long a trial is."""

    poll: Duration = Duration(21_600_000_000)
    trial_inferences: int = 50


@dataclass(frozen=True, slots=True)
class SamplesConfig:
    """Whether samples may leave the device when asked, and how many bytes a day."""

    consent: bool = False
    budget: Size = Size(1024**2)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """All that the agent can be told in its file."""

    state_dir: Path
    source: SourceConfig
    sink: SinkConfig | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    log: LogConfig = field(default_factory=LogConfig)


def load_config(path: Path) -> AgentConfig:
    """Read a configuration file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: Unreadable, not YAML, an unknown key, or a wrong value.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(msg, next_step="name a file with --config") from error
    return parse_config(data, path.name, path.parent.resolve())


def parse_config(data: bytes, name: str, folder: Path) -> AgentConfig:
    """Parse a configuration.

    Args:
        data: YAML.
        name: The file's name, for messages.
        folder: What relative paths are relative to.

    Raises:
        ConfigError: Not YAML, an unknown key, or a wrong value.
    """
    if len(data) > MAX_CONFIG_BYTES:
        msg = f"{name}: expected at most {MAX_CONFIG_BYTES} bytes, found {len(data)}"
        raise ConfigError(msg, next_step="compare with configs/agent.yaml")
    try:
        tree = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        msg = f"{name}: expected YAML: {error}"
        raise ConfigError(msg, next_step="compare with configs/agent.yaml") from error
    if not isinstance(tree, dict):
        msg = f"{name}: expected keys and values, found {type(tree).__name__}"
        raise ConfigError(msg, next_step="compare with configs/agent.yaml")
    converter = _make_converter(folder)
    try:
        config = converter.structure(_expand(tree), AgentConfig)
        _check(config)
    except (cattrs.BaseValidationError, ValueError) as error:
        key, problem = _explain(error)
        msg = f"{name}: {key}: {problem}" if key else f"{name}: {problem}"
        raise ConfigError(msg, next_step="compare with configs/agent.yaml") from error
    return config


def _make_converter(folder: Path) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    hooks: dict[type, Callable[[Any, Any], Any]] = {
        Duration: lambda value, _: Duration.parse(value),
        Size: lambda value, _: Size.parse(value),
        Path: lambda value, _: folder / _exactly(str, value, "a path"),
        str: lambda value, _: _exactly(str, value, "a text"),
        bool: lambda value, _: _exactly(bool, value, "true or false"),
        int: lambda value, _: _exactly(int, value, "a whole number"),
        float: lambda value, _: _number(value),
    }
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(_is_literal, _one_of)
    return converter


def _check(config: AgentConfig) -> None:
    limits = {
        "model.threads": (config.model.threads, 1, 64),
        "source.rate": (config.source.rate, 0, 100_000),
        "source.sample_rate_hz": (config.source.sample_rate_hz, 0.001, 10_000_000),
        "update.trial_inferences": (config.update.trial_inferences, 1, 1_000_000),
        "outbox.max": (config.outbox.max.bytes, 64 * 1024, 2**40),
    }
    for key, (value, low, high) in limits.items():
        if not low <= value <= high:
            msg = f"{key}: expected {low} to {high}, found {value}"
            raise ValueError(msg)


def _exactly(kind: type, value: object, expected: str) -> Any:
    if type(value) is not kind:
        raise _wrong(expected, value)
    return value


def _one_of(value: object, kind: Any) -> object:
    choices = get_args(kind)
    if value not in choices:
        raise _wrong("one of " + ", ".join(choices), value)
    return value


def _number(value: object) -> float:
    if type(value) not in {int, float}:
        raise _wrong("a number", value)
    return float(value)  # type: ignore[arg-type]


def _wrong(expected: str, found: object) -> ValueError:
    msg = f"expected {expected}, found {found!r}"
    return ValueError(msg)


def _expand(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _expand(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_expand(one) for one in tree]
    return _VARIABLE.sub(_variable, tree) if isinstance(tree, str) else tree


def _variable(found: re.Match[str]) -> str:
    value = os.environ.get(found[1])
    if value is None:
        msg = f"the environment has no variable {found[1]}"
        raise ConfigError(msg, next_step="set it, or write the value itself")
    return value


def _is_literal(kind: Any) -> bool:
    return bool(get_origin(kind) == Literal)


def _explain(error: BaseException, path: str = "") -> tuple[str, str]:
    """Return key and problem of the first thing that is wrong."""
    if isinstance(error, ForbiddenExtraKeysError):
        unknown = min(str(one) for one in error.extra_fields)
        known = ", ".join(one.name for one in dataclasses.fields(error.cl))
        return _join(path, unknown), f"unknown key; expected one of {known}"
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            notes = getattr(inner, "__notes__", [])
            name = next((one.name for one in notes if hasattr(one, "name")), "")
            return _explain(inner, _join(path, name))
    if isinstance(error, KeyError):
        return path, "missing"
    if isinstance(error, (AttributeError, TypeError)):
        return path, "expected keys and values"
    return path, str(error)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
