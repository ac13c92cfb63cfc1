# SPDX-License-Identifier: Apache-2.0
"""What the environment says; the only module of the agent that reads it.

Owns ``${NAME}`` in the texts of a configuration, and the reading of variables.
"""

import os
import re
from typing import Any

from edge_contract.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_variables(prefix: str) -> dict[str, str]:
    """Return the variables whose names begin with ``prefix``."""
    return {name: text for name, text in os.environ.items() if name.startswith(prefix)}


def read_variable(name: str) -> str | None:
    """Return one variable; None where there is none."""
    return os.environ.get(name)


def expand(tree: Any) -> Any:
    """Replace ``${NAME}`` in all texts of a tree by the variable of that name.

    Raises:
        ConfigError: The environment has no such variable.
    """
    if isinstance(tree, dict):
        return {key: expand(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [expand(one) for one in tree]
    return _VARIABLE.sub(_variable, tree) if isinstance(tree, str) else tree


def _variable(found: re.Match[str]) -> str:
    value = read_variable(found[1])
    if value is None:
        msg = f"the environment has no variable {found[1]}"
        raise ConfigError(msg, next_step="set it, or write the value itself")
    return value
