# SPDX-License-Identifier: Apache-2.0
"""Several sinks as one: what fails in one does not reach the others."""

from collections.abc import Callable, Mapping, Sequence

from edge_agent.errors import SinkError
from edge_agent.flow import Accountable, Result, Sink


class FanOut:
    """Hands each result to every sink.

    Args:
        sinks: By name; taken over.
    """

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)

    @property
    def account(self) -> Mapping[str, int | str]:
        """What each sink says, its name before each key."""
        return {
            f"{name}.{key}": value
            for name, sink in self._sinks.items()
            if isinstance(sink, Accountable)
            for key, value in sink.account.items()
        }

    def write(self, result: Result) -> None:
        """Take one result; see ``Sink.write``."""
        _to_all([one.write for one in self._sinks.values()], result)

    def flush(self) -> None:
        """Flush every sink; see ``Sink.flush``."""
        _to_all([one.flush for one in self._sinks.values()])

    def close(self) -> None:
        """Close every sink; see ``Sink.close``."""
        _to_all([one.close for one in self._sinks.values()])


def _to_all(calls: Sequence[Callable[..., None]], *arguments: Result) -> None:
    """Call all, then raise the first error.

    Raises:
        SinkError: One of them did.
    """
    problem: SinkError | None = None
    for call in calls:
        try:
            call(*arguments)
        except SinkError as error:
            problem = problem or error
    if problem is not None:
        raise problem
