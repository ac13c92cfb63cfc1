# SPDX-License-Identifier: Apache-2.0
"""The configuration file: YAML into frozen values, refused by file and key.

Owns reading and its bounds, and the form of a message.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from edge_agent.config.environment import read_variables
from edge_agent.config.layers import PREFIX, Layers
from edge_agent.config.schema import AgentConfig
from edge_contract.errors import ConfigError

MAX_CONFIG_BYTES: Final = 256 * 1024
_COMPARE: Final = "compare with configs/agent.yaml"


def load_config(path: Path) -> AgentConfig:
    """Read a configuration file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: Unreadable, not YAML, an unknown key, or a wrong value.
    """
    return parse_config(read_file(path), path.name, path.parent.resolve())


def load_layers(path: Path, flags: Sequence[str] = ()) -> Layers:
    """Read a configuration file, and what flags and environment say beside it.

    Args:
        path: The file.
        flags: ``KEY=VALUE`` each, the value in YAML.

    Raises:
        ConfigError: Unreadable, not YAML, or a flag without a key.
    """
    return Layers(
        parse_tree(read_file(path), path.name),
        path.name,
        path.parent.resolve(),
        tuple(_split(one) for one in flags),
        read_variables(PREFIX),
    )


def read_file(path: Path) -> bytes:
    """Return the bytes of a configuration file.

    Raises:
        ConfigError: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(msg, next_step="name a file with --config") from error


def parse_config(data: bytes, name: str, folder: Path) -> AgentConfig:
    """Parse a configuration.

    Args:
        data: YAML.
        name: The file's name, for messages.
        folder: What relative paths are relative to.

    Raises:
        ConfigError: Not YAML, an unknown key, or a wrong value.
    """
    return Layers(parse_tree(data, name), name, folder).resolve().config


def parse_tree(data: bytes, name: str) -> dict[str, Any]:
    """Parse the YAML of a configuration into plain values.

    Raises:
        ConfigError: Too large, not YAML, or no keys and values.
    """
    if len(data) > MAX_CONFIG_BYTES:
        msg = f"{name}: expected at most {MAX_CONFIG_BYTES} bytes"
        raise ConfigError(msg, next_step=_COMPARE)
    try:
        tree = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        msg = f"{name}: expected YAML: {error}"
        raise ConfigError(msg, next_step=_COMPARE) from error
    if not isinstance(tree, dict):
        msg = f"{name}: expected keys and values, found {type(tree).__name__}"
        raise ConfigError(msg, next_step=_COMPARE)
    return tree


def _split(flag: str) -> tuple[str, str]:
    key, sign, text = flag.partition("=")
    if not key or not sign:
        msg = f"--set: expected KEY=VALUE, found {flag!r}"
        raise ConfigError(msg, next_step="write for example --set log.level=debug")
    return key, text
