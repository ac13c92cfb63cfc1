# SPDX-License-Identifier: Apache-2.0
"""Who sent a request, for routes that write to the audit log."""

from starlette.requests import HTTPConnection

PERSON = "user:"  # how an actor begins whom the operating system has named


def find_request_actor(connection: HTTPConnection) -> str:
    """Return the name that the gate found, ``device`` on an open path."""
    return str(connection.scope.get("state", {}).get("actor", "device"))
