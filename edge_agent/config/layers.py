# SPDX-License-Identifier: Apache-2.0
"""Who said what: flag, environment, file, the fleet's desired, default; first wins.

Owns the precedence, the names of the environment's variables, which keys a fleet may
set, and the origin of each effective value. It reads neither disk nor environment.

A variable is named after its key, ``log.level`` in ``EDGE_AGENT_LOG_LEVEL``; its text,
like a flag's, is read as YAML. A fleet may set what is safe from afar and applied
without touching data, addresses or consent (docs/reference/agent.md).
"""

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import yaml

from edge_agent.config.environment import expand
from edge_agent.config.schema import AgentConfig
from edge_agent.config.structure import (
    KeyedError,
    find_member,
    is_choice,
    members,
    structure,
)
from edge_contract.errors import ConfigError

PREFIX: Final = "EDGE_AGENT_"
CONFIG_VARIABLE: Final = "EDGE_AGENT_CONFIG"
FLEET_KEYS: Final = (
    "log.level",
    "statistics.checkpoint",
    "statistics.window",
    "update.poll",
    "update.trial_inferences",
)
LIVE_KEYS: Final = ("log.level", "update.poll", "update.trial_inferences")
REASON_LOCAL: Final = "can be set in the device's own file only"
_FLAG: Final = "flag --set"
_DEFAULT: Final = "default"
_COMPARE: Final = "compare with configs/agent.yaml"
_ITEM = re.compile(r"\.\d+(\..*)?$", re.ASCII)
_SEPARATOR = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One effective value.

    Attributes:
        key: ``models.main.threads`` and the like.
        value: As it would be written in the file.
        origin: Who said so.
        variable: The environment's name for the key, or for the list that it is in.
    """

    key: str
    value: str
    origin: str
    variable: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The effective configuration.

    Attributes:
        config: Its values.
        origins: Who said each key that is not from the file, and not a default.
        refused: Keys of the fleet's desired that were not taken, with the reason.
    """

    config: AgentConfig
    origins: Mapping[str, str]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """What was said.

    Attributes:
        tree: The file's keys and values, ``${NAME}`` unreplaced.
        name: The file's name, for messages.
        folder: What relative paths are relative to.
        flags: Key and text of each ``--set``, in order.
        variables: The environment's variables that begin with ``EDGE_AGENT_``.
        desired: What the fleet wants.
        generation: Of that.
    """

    tree: Mapping[str, Any]
    name: str
    folder: Path
    flags: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    desired: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0

    def resolve(self) -> Resolved:
        """Return the effective configuration.

        Raises:
            ConfigError: An unknown key or variable, or a wrong value.
        """
        tree: dict[str, Any] = copy.deepcopy(dict(self.tree))
        origins: dict[str, str] = {}
        for key, text in self.flags:
            _put(tree, key, _read(text, f"{_FLAG} {key}"))
            origins[key] = _FLAG
        for key, variable in self._find_variables(tree).items():
            if key not in origins:
                _put(tree, key, _read(self.variables[variable], variable))
                origins[key] = f"environment {variable}"
        refused = []
        for key in sorted(self.desired):
            reason = self._refuse(tree, key)
            if reason:
                refused.append((key, reason))
                continue
            _put(tree, key, self.desired[key])
            origins[key] = f"fleet, generation {self.generation}"
        try:
            config = structure(expand(tree), self.folder)
        except KeyedError as error:
            who = _find_origin(origins, error.key) or self.name
            where = f"{who}: {error.key}" if error.key else who
            raise ConfigError(f"{where}: {error}", next_step=_COMPARE) from error
        return Resolved(config, origins, tuple(refused))

    def explain(self) -> list[Entry]:
        """Return every effective value with its origin, in the file's order.

        A text with ``${NAME}`` is shown as it was written: it may be a secret.

        Raises:
            ConfigError: As ``resolve``.
        """
        resolved = self.resolve()
        tree = copy.deepcopy(dict(self.tree))
        for key, text in self.flags:
            _put(tree, key, _read(text, f"{_FLAG} {key}"))
        names = {variable_of(key) for key in _leaves(AgentConfig, tree, "")}
        entries = []
        for key, value in _walk(resolved.config):
            origin = _find_origin(resolved.origins, key)
            raw = _get(self.tree, key)
            if not origin:
                origin = _DEFAULT if raw is None else f"file {self.name}"
            is_secret = isinstance(raw, str) and "${" in raw
            text = raw if is_secret else _write(value)
            variable = variable_of(_ITEM.sub("", key))
            shown = variable if variable in names else ""
            entries.append(Entry(key, text, origin, shown))
        return entries

    def _refuse(self, tree: dict[str, Any], key: str) -> str:
        if key not in FLEET_KEYS:
            return REASON_LOCAL
        if _get(tree, key) is not None:
            return "is set on the device itself"
        trial = copy.deepcopy(tree)
        _put(trial, key, self.desired[key])
        try:
            structure(expand(trial), self.folder)
        except KeyedError as error:
            # What is wrong elsewhere is no fault of this key.
            return str(error) if error.key == key else ""
        return ""

    def _find_variables(self, tree: dict[str, Any]) -> dict[str, str]:
        """Return the variable of each key that the environment sets."""
        names: dict[str, str] = {}
        for key in _leaves(AgentConfig, tree, ""):
            names.setdefault(variable_of(key), key)
        found = {}
        for variable in sorted(self.variables):
            if variable == CONFIG_VARIABLE:
                continue
            if variable not in names:
                msg = f"environment {variable}: no key has this name"
                raise ConfigError(
                    msg, next_step="`edge-agent config explain` shows the names"
                )
            found[names[variable]] = variable
        return found


def variable_of(key: str) -> str:
    """Return the environment's name for a key.

    >>> variable_of("models.front-door.threads")
    'EDGE_AGENT_MODELS_FRONT_DOOR_THREADS'
    """
    return PREFIX + _SEPARATOR.sub("_", key.upper())


def _leaves(kind: Any, tree: Any, path: str) -> Iterator[str]:
    """Yield the keys that a configuration with these branches can have."""
    if get_origin(kind) is not None and issubclass(_origin(kind), Mapping):
        for name in tree if isinstance(tree, dict) else ():
            yield from _leaves(get_args(kind)[1], tree[name], f"{path}{name}.")
        return
    found = members(kind)
    one = find_member(tree, kind) if is_choice(kind) else found[0]
    if one is None or not dataclasses.is_dataclass(one) or _is_value(one):
        if path:
            yield path[:-1]
        return
    hints = get_type_hints(one)
    for part in dataclasses.fields(one):
        branch = tree.get(part.name) if isinstance(tree, dict) else None
        yield from _leaves(hints[part.name], branch, f"{path}{part.name}.")


def _origin(kind: Any) -> type:
    found = get_origin(kind)
    return found if isinstance(found, type) else object


def _is_value(kind: Any) -> bool:
    """Return whether a class is one value with a unit."""
    return hasattr(kind, "parse")


def _walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        parts = [(str(name), value) for name, value in node.items()]
    elif isinstance(node, tuple) and any(map(dataclasses.is_dataclass, node)):
        parts = [(str(number), value) for number, value in enumerate(node)]
    elif dataclasses.is_dataclass(node) and not _is_value(node):
        names = [one.name for one in dataclasses.fields(node)]
        parts = [(name, getattr(node, name)) for name in names]
    else:
        yield path, node
        return
    for name, value in parts:
        yield from _walk(value, f"{path}.{name}" if path else name)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *branches, last = key.split(".")
    for branch in branches:
        below = tree.get(branch)
        if not isinstance(below, dict):
            below = tree[branch] = {}
        tree = below
    tree[last] = value


def _get(tree: Any, key: str) -> Any:
    for branch in key.split("."):
        if isinstance(tree, list) and branch.isdigit() and int(branch) < len(tree):
            tree = tree[int(branch)]
        elif isinstance(tree, Mapping):
            tree = tree.get(branch)
        else:
            return None
    return tree


def _find_origin(origins: Mapping[str, str], key: str) -> str:
    """Return who said a key, or one above it; empty where nobody did."""
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return ""


def _read(text: str, who: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        msg = f"{who}: expected YAML, found {text!r}"
        raise ConfigError(msg, next_step=_COMPARE) from error


def _write(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_write(one) for one in value) + "]"
    return str(value)
