# SPDX-License-Identifier: Apache-2.0
"""The wanted configuration: what the fleet asked for, as far as it was taken.

Owns want.json in the state folder: the generation, the tags, the values as they came,
and which keys were refused, with the reason. Which keys a fleet may set is
``config.layers``'s matter.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import StateError
from edge_agent.store import write_atomic
from edge_contract.messages import Want
from edge_contract.wire import Scalar

MAX_REFUSED: Final = 64
_FILE: Final = "want.json"
Refused = tuple[tuple[str, str], ...]
Judge = Callable[[Mapping[str, Scalar], int], Refused]


@dataclass(frozen=True)
class Wanted:
    """The last wanted configuration.

    Attributes:
        generation: The server's number for it.
        tags: Of this device.
        config: Every key that was asked for, taken or not.
        refused: Those that were not taken, with the reason.
    """

    generation: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Scalar] = field(default_factory=dict)
    refused: Refused = ()


def take_want(want: Want, judge: Judge) -> Wanted:
    """Take a wanted configuration as far as it may be taken.

    Args:
        want: As the server sent it.
        judge: Given keys with values and the generation, says which are refused, with
            the reason.

    >>> want = Want(1, 0, 7, {"samples.consent": True}, {})
    >>> take_want(want, lambda config, _: tuple((key, "no") for key in config)).refused
    (('samples.consent', 'no'),)
    """
    config = dict(want.config)
    refused = judge(config, want.generation)[:MAX_REFUSED]
    return Wanted(want.generation, dict(want.tags), config, refused)


def load_wanted(state_dir: Path) -> Wanted:
    """Return the wanted configuration that was saved, or an empty one.

    Raises:
        StateError: The file is damaged.
    """
    path = state_dir / _FILE
    try:
        found: Any = json.loads(path.read_bytes())
        refused = tuple((str(key), str(reason)) for key, reason in found["refused"])
        return Wanted(
            int(found["generation"]),
            dict(found["tags"]),
            dict(found.get("config", {})),
            refused,
        )
    except FileNotFoundError:
        return Wanted()
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise StateError(
            msg, next_step="delete it; the server sends it again"
        ) from error


def save_wanted(state_dir: Path, wanted: Wanted) -> None:
    """Make a wanted configuration durable.

    Raises:
        OSError: The disk refused.
    """
    body = {
        "generation": wanted.generation,
        "tags": dict(wanted.tags),
        "config": dict(wanted.config),
        "refused": [list(one) for one in wanted.refused],
    }
    write_atomic(state_dir / _FILE, json.dumps(body).encode())
