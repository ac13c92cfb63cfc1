# SPDX-License-Identifier: Apache-2.0
"""From plain values to the configuration's classes, refused by key.

Owns how a value is read for each kind of field, how the members of a union are told
apart (by their key ``type``), and the words for what is wrong. It reads no file.
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import cattrs
from cattrs.errors import ForbiddenExtraKeysError

from edge_agent.addresses import Address
from edge_agent.config.schema import AgentConfig
from edge_agent.config.units import (
    BOUNDS,
    Duration,
    Percent,
    Size,
    WeekTimes,
    magnitude,
    wrong,
)

TAG: Final = "type"
_SLOT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


class KeyedError(ValueError):
    """A wrong value below the key that is being read."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def make_converter(folder: Path) -> cattrs.Converter:
    """Make the converter of a configuration; relative paths are below ``folder``."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    hooks: dict[type, Callable[[Any, Any], Any]] = {
        Address: lambda value, _: Address.parse(value),
        Duration: lambda value, _: Duration.parse(value),
        Size: lambda value, _: Size.parse(value),
        Percent: lambda value, _: Percent.parse(value),
        WeekTimes: lambda value, _: WeekTimes.parse(value),
        Path: lambda value, _: folder / _exactly(str, value, "a path"),
        str: lambda value, _: _exactly(str, value, "a text"),
        bool: lambda value, _: _exactly(bool, value, "true or false"),
        int: lambda value, _: _exactly(int, value, "a whole number"),
        float: lambda value, _: _number(value),
    }
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(_is_literal, _one_of)
    converter.register_structure_hook_func(
        is_choice, lambda value, kind: _choose(converter, value, kind)
    )
    return converter


def structure(tree: dict[str, Any], folder: Path) -> AgentConfig:
    """Turn plain values into a configuration.

    Raises:
        KeyedError: A value is wrong; ``key`` says which.
    """
    try:
        config = make_converter(folder).structure(tree, AgentConfig)
    except (cattrs.BaseValidationError, ValueError) as error:
        raise KeyedError(*_explain(error)) from error
    check(config)
    return config


def check(config: AgentConfig) -> None:
    """Refuse what no single field can see: bounds, and the names of slots.

    Raises:
        KeyedError: A value is wrong; ``key`` says which.
    """
    if not config.models:
        raise KeyedError("models", "expected at least one model, found none")
    for name in config.models:
        if not _SLOT.fullmatch(name):
            problem = f"expected a name of a-z, 0-9 and -, found {name!r}"
            raise KeyedError("models", problem)
    _check_bounds(config, "")


def members(kind: Any) -> tuple[type, ...]:
    """Return the classes of a union, without None."""
    found = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    return tuple(one for one in found if one is not NoneType)


def is_choice(kind: Any) -> bool:
    """Return whether a kind is one of several classes, told apart by ``type``."""
    found = members(kind)
    return len(found) > 1 and all(dataclasses.is_dataclass(one) for one in found)


def find_member(tree: Any, kind: Any) -> type | None:
    """Return the class that the key ``type`` of ``tree`` names; None: there is none.

    A class whose ``type`` is any text stands for all names that no other has.
    """
    name = tree.get(TAG) if isinstance(tree, dict) else None
    rest = None
    for one in members(kind):
        tag = get_type_hints(one)[TAG]
        if tag is str:
            rest = one
        elif name in get_args(tag):
            return one
    return rest if isinstance(name, str) else None


def _choose(converter: cattrs.Converter, value: Any, kind: Any) -> Any:
    if value is None and NoneType in get_args(kind):
        return None
    if not isinstance(value, dict):
        raise TypeError
    found = find_member(value, kind)
    if found is None:
        known = [
            name for one in members(kind) for name in get_args(get_type_hints(one)[TAG])
        ]
        problem = f"expected one of {', '.join(known)}, found {value.get(TAG)!r}"
        raise KeyedError(TAG, problem)
    return converter.structure(value, found)


def _check_bounds(node: Any, path: str) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            _check_bounds(value, _join(path, str(name)))
    elif isinstance(node, tuple):
        for number, value in enumerate(node):
            _check_bounds(value, _join(path, str(number)))
    elif dataclasses.is_dataclass(node):
        for one in dataclasses.fields(node):
            value, key = getattr(node, one.name), _join(path, one.name)
            size = magnitude(value)
            if BOUNDS in one.metadata and size is not None:
                low, high = one.metadata[BOUNDS]
                if not low <= size <= high:
                    problem = f"expected {low} to {high}, found {value}"
                    raise KeyedError(key, problem)
            _check_bounds(value, key)


def _is_literal(kind: Any) -> bool:
    return bool(get_origin(kind) == Literal)


def _exactly(kind: type, value: object, expected: str) -> Any:
    if type(value) is not kind:
        raise wrong(expected, value)
    return value


def _one_of(value: object, kind: Any) -> object:
    choices = get_args(kind)
    if value not in choices:
        raise wrong("one of " + ", ".join(choices), value)
    return value


def _number(value: object) -> float:
    if type(value) not in {int, float}:
        raise wrong("a number", value)
    return float(value)  # type: ignore[arg-type]


def _explain(error: BaseException, path: str = "") -> tuple[str, str]:
    """Return key and problem of the first thing that is wrong."""
    if isinstance(error, ForbiddenExtraKeysError):
        unknown = min(str(one) for one in error.extra_fields)
        known = ", ".join(one.name for one in dataclasses.fields(error.cl))
        return _join(path, unknown), f"unknown key; expected one of {known}"
    if isinstance(error, cattrs.BaseValidationError):
        inner = error.exceptions[0]
        return _explain(inner, _join(path, _noted_name(inner)))
    if isinstance(error, KeyedError):
        return _join(path, error.key), str(error)
    if isinstance(error, KeyError):
        return path, "missing"
    if isinstance(error, (AttributeError, TypeError)):
        return path, "expected keys and values"
    return path, str(error)


def _noted_name(error: BaseException) -> str:
    """Return the key or number of the value that ``error`` is about."""
    for note in getattr(error, "__notes__", []):
        for attribute in ("name", "index"):
            if hasattr(note, attribute):
                return str(getattr(note, attribute))
    return ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
