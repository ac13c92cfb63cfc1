# SPDX-License-Identifier: Apache-2.0
"""An outlet of another distribution: whatever it raises becomes a ``SinkError``."""

from collections.abc import Sequence

from edge_agent.config.sinks import PluginSinkConfig
from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.plugins import SINKS, find_plugin
from edge_agent.sinks.queued import Outlet
from edge_contract.errors import EdgeError


class PluginOutlet:
    """Guards an outlet.

    Args:
        config: Its name, and what it was told.
        known: Types that need no plugin.

    Raises:
        PluginError: No distribution brings it, or it cannot be imported.
        SinkError: It cannot be opened.
    """

    def __init__(self, config: PluginSinkConfig, known: tuple[str, ...]) -> None:
        self._name = config.type
        make = find_plugin(SINKS, config.type, known)
        try:
            self._inner: Outlet = make(dict(config.options))
        except EdgeError:
            raise
        except Exception as error:  # others' code may raise anything
            raise self._failed("cannot be opened", error) from error

    def put(self, results: Sequence[Result]) -> int:
        """Hand results over; see ``Outlet.put``.

        Raises:
            SinkError: The outlet failed, or took no or too many results.
        """
        try:
            taken = self._inner.put(results)
        except SinkError:
            raise
        except Exception as error:  # others' code may raise anything
            raise self._failed("failed", error) from error
        if type(taken) is not int or not 1 <= taken <= len(results):
            msg = f"sink {self._name}: expected it to take 1 to {len(results)} results"
            msg += f", found {taken!r}"
            raise SinkError(msg, next_step="mend the sink")
        return taken

    def close(self) -> None:
        """Close the outlet.

        Raises:
            SinkError: It failed.
        """
        try:
            self._inner.close()
        except Exception as error:  # others' code may raise anything
            raise self._failed("failed", error) from error

    def _failed(self, what: str, error: Exception) -> SinkError:
        msg = f"sink {self._name}: {what}: {type(error).__name__}: {error}"
        return SinkError(msg, next_step="mend the sink, or correct its options")
