# SPDX-License-Identifier: Apache-2.0
"""Sources and sinks that other distributions bring, found by their entry points.

Owns the look-up by name. What is found is code of the device's own: who can install a
package here runs it anyway. Nothing is imported but the one that is named.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any, Final

from edge_agent.errors import PluginError

SOURCES: Final = "edgeloop.sources"
SINKS: Final = "edgeloop.sinks"


def find_plugin(group: str, name: str, known: tuple[str, ...]) -> Callable[..., Any]:
    """Return what an entry point names.

    Args:
        group: ``SOURCES`` or ``SINKS``.
        name: As in the configuration, under ``type``.
        known: Types that need no plugin, for the message.

    Raises:
        PluginError: No distribution brings it, or it cannot be imported.
    """
    found = metadata.entry_points(group=group)
    chosen = [one for one in found if one.name == name]
    if not chosen:
        names = ", ".join([*known, *sorted(one.name for one in found)])
        msg = f"{group} {name!r}: expected one of {names}"
        raise PluginError(msg, next_step="correct type, or install what brings it")
    try:
        made: Callable[..., Any] = chosen[0].load()
    except Exception as error:  # others' code may raise anything
        msg = f"{group} {name!r}: {chosen[0].value} cannot be imported: "
        msg += f"{type(error).__name__}: {error}"
        raise PluginError(
            msg, next_step="mend or reinstall the distribution"
        ) from error
    return made
