# SPDX-License-Identifier: Apache-2.0
"""The server's part of the error tree.

Owns the classes that every feature of the server may raise; a feature adds its own
in its package, deriving from these. ``http_status`` is what the REST API answers.
"""

from typing import ClassVar

from edge_contract.errors import EXIT_GATE, EXIT_TRUST, EXIT_USAGE, EdgeError


class FleetError(EdgeError):
    """The root of the server's errors."""

    code = "fleet"
    http_status: ClassVar[int] = 500


class StateError(FleetError):
    """The state folder is missing, in use, or made by another version."""

    code = "fleet.state"


class ListenError(FleetError):
    """An address to listen on is taken or not allowed."""

    code = "fleet.listen"


class BrokerError(FleetError):
    """The MQTT broker does not start or answer."""

    code = "fleet.broker"
    http_status = 503


class NotFoundError(FleetError):
    """No device, model, rollout, request or run has this name."""

    code = "fleet.not_found"
    http_status = 404


class ConflictError(FleetError):
    """The request contradicts what is already there."""

    code = "fleet.conflict"
    http_status = 409


class RequestError(FleetError):
    """A request lacks a field or carries a value of the wrong kind."""

    code = "fleet.request"
    exit_code = EXIT_USAGE
    http_status = 400


class TooLargeError(FleetError):
    """A request body is larger than allowed."""

    code = "fleet.too_large"
    http_status = 413


class UnauthorizedError(FleetError):
    """The request carries no valid token."""

    code = "fleet.unauthorized"
    exit_code = EXIT_TRUST
    http_status = 401


class RefusedError(FleetError):
    """A signature, digest or message authentication code does not verify."""

    code = "fleet.refused"
    exit_code = EXIT_TRUST
    http_status = 403


class GateError(FleetError):
    """A quality gate holds the request back."""

    code = "fleet.gate"
    exit_code = EXIT_GATE
    http_status = 409


class ClientError(FleetError):
    """The command line cannot reach the server, or does not understand it."""

    code = "fleet.client"
    http_status = 502


class RemoteError(FleetError):
    """The server answered a request of the command line with an error.

    Args:
        message: The server's message.
        next_step: The server's next step.
        code: The server's dotted code.
        exit_code: The exit code that the server's error carries.
    """

    def __init__(
        self, message: str, *, next_step: str, code: str, exit_code: int
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.remote_code = code
        self.remote_exit_code = exit_code
