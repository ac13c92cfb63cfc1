# SPDX-License-Identifier: Apache-2.0
"""Who does something, as the audit log names them."""

import pwd

from starlette.requests import HTTPConnection

PERSON = "user:"  # how an actor begins whom the operating system has named


def name_person(uid: int) -> str:
    """Return the actor behind a user number of the operating system."""
    try:
        return PERSON + pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"{PERSON}{uid}"


def find_request_actor(connection: HTTPConnection) -> str:
    """Return the name that the gate found, ``device`` on an open path."""
    return str(connection.scope.get("state", {}).get("actor", "device"))
