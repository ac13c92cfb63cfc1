# SPDX-License-Identifier: Apache-2.0
"""The device's part of Edgeloop: local inference, statistics, safe model updates.

``load`` is the public interface for programs that infer by themselves, unobserved;
``embedded.open_agent`` for those that want all that the daemon, ``edge-agent run``,
does.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.runtime.model import Model, load

__all__ = ["Model", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the public interface when it is used, not when a submodule is."""
    if name in __all__:
        from edge_agent.runtime import model

        return getattr(model, name)
    msg = f"module 'edge_agent' has no attribute {name!r}"
    raise AttributeError(msg)
