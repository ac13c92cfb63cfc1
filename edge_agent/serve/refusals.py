# SPDX-License-Identifier: Apache-2.0
"""Why a request is not answered: one error class for each HTTP status we send.

Owns the mapping of errors to statuses, and the JSON form of an error. gRPC maps the
same classes to its own codes (``grpc_service``).
"""

import json
from typing import ClassVar

from edge_agent.errors import ModelError, ServeError
from edge_contract.errors import EdgeError


class RefusedError(ServeError):
    """A request that the local service does not answer."""

    code = "agent.serve.request"
    status: ClassVar[int] = 400


class UnsupportedError(RefusedError):
    """The request needs a part of the protocol that this service does not offer."""

    code = "agent.serve.unsupported"


class LabelsError(RefusedError):
    """Labels are malformed, or the slot takes none."""

    code = "agent.serve.labels"


class ForbiddenError(RefusedError):
    """The request comes from a web page, or for another host."""

    code = "agent.serve.forbidden"
    status = 403


class AbsentError(RefusedError):
    """Nothing has this path, name, version or key."""

    code = "agent.serve.absent"
    status = 404


class MethodError(RefusedError):
    """The path is there, for another method."""

    code = "agent.serve.method"
    status = 405


class TimedOutError(RefusedError):
    """The request did not arrive in time."""

    code = "agent.serve.timeout"
    status = 408


class TooLargeError(RefusedError):
    """The request is larger than the configuration allows."""

    code = "agent.serve.too-large"
    status = 413


class HeadTooLargeError(RefusedError):
    """The request's head is larger than any honest one."""

    code = "agent.serve.head"
    status = 431


class FailedError(RefusedError):
    """The model failed on good input."""

    code = "agent.serve.failed"
    status = 500


class UnreadyError(RefusedError):
    """What was asked for is there, and cannot serve now."""

    code = "agent.serve.unready"
    status = 503


def find_status(error: EdgeError) -> int:
    """Return the HTTP status that says ``error``.

    >>> find_status(AbsentError("model x: there is none"))
    404
    """
    if isinstance(error, RefusedError):
        return error.status
    return UnreadyError.status if isinstance(error, ModelError) else FailedError.status


def format_error(error: EdgeError) -> bytes:
    """Return the JSON body of an error: ``error`` as the protocol has it, and ours."""
    document = {"error": str(error), "code": error.code, "next_step": error.next_step}
    return json.dumps(document).encode()
