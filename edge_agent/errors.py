# SPDX-License-Identifier: Apache-2.0
"""The agent's part of the error tree.

* EdgeError
    * AgentError - anything that only a device can meet
        * BackendError - an inference runtime refused a model or an input
        * ModelError - a release cannot serve here
        * SourceError - a source cannot be opened or read
        * SinkError - a sink cannot be opened or written
            * SinkRefusedError - a sink will never take these results
        * PluginError - a source or sink of another distribution cannot be had
        * StateError - the state folder holds something that we did not write
        * LockError - another agent uses the state folder
        * NotEnrolledError - the device belongs to no fleet yet
        * OutboxError - the outbox cannot be opened, read or written
        * LinkError - the broker's address or answer cannot be used
        * UploadError - samples cannot be sent
        * UpdateError - a model update cannot go on
        * ServeError - the local service cannot listen, or refuses a request
        * BatchError - predictions cannot be computed ahead, or looked up
"""

from edge_contract.errors import EXIT_TRUST, EdgeError


class AgentError(EdgeError):
    """The root of the agent's errors."""

    code = "agent"


class BackendError(AgentError):
    """An inference runtime refused a model or an input."""

    code = "agent.backend"


class ModelError(AgentError):
    """A release cannot serve on this device."""

    code = "agent.model"


class SourceError(AgentError):
    """A source cannot be opened or read."""

    code = "agent.source"


class SinkError(AgentError):
    """A sink cannot be opened or written."""

    code = "agent.sink"


class SinkRefusedError(SinkError):
    """A sink will never take these results, however often it is asked."""

    code = "agent.sink.refused"


class PluginError(AgentError):
    """A source or sink of another distribution is not there, or cannot be imported."""

    code = "agent.plugin"


class StateError(AgentError):
    """The state folder holds something that this version did not write."""

    code = "agent.state"


class LockError(AgentError):
    """Another agent uses the same state folder."""

    code = "agent.lock"


class NotEnrolledError(AgentError):
    """The device belongs to no fleet yet."""

    code = "agent.not-enrolled"


class OutboxError(AgentError):
    """The outbox cannot be opened, read or written."""

    code = "agent.outbox"


class LinkError(AgentError):
    """The broker's address or answer cannot be used."""

    code = "agent.link"


class UploadError(AgentError):
    """Samples cannot be sent."""

    code = "agent.upload"


class UpdateError(AgentError):
    """A model update cannot go on."""

    code = "agent.update"


class UpdateTrustError(UpdateError):
    """Update metadata or a bundle is not what a trusted key signed."""

    code = "agent.update.trust"
    exit_code = EXIT_TRUST


class FeedbackError(AgentError):
    """A label is not taken.

    Args:
        reason: A short stable word; refusals are counted under it.
        problem: What is wrong with the label.
    """

    code = "agent.feedback"

    def __init__(self, reason: str, problem: str) -> None:
        self.reason = reason
        step = "see docs/how-to/send-labels-back.md"
        super().__init__(f"label ({reason}): {problem}", next_step=step)


class RequestError(AgentError):
    """What the fleet asks for cannot be done on this device."""

    code = "agent.request"


class ServeError(AgentError):
    """The local service cannot listen."""

    code = "agent.serve"


class BatchError(AgentError):
    """Predictions cannot be computed ahead, or looked up."""

    code = "agent.batch"
