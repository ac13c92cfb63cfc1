# SPDX-License-Identifier: Apache-2.0
"""How errors look in HTTP.

Owns the one JSON form of an error answer, which ``fleet.client`` reads back.
"""

from starlette.responses import JSONResponse

from edge_contract.errors import EdgeError
from fleet.errors import FleetError

_REQUEST_IS_WRONG = 400


def error_response(error: EdgeError) -> JSONResponse:
    """Return the answer for ``error``, with its own status if it has one."""
    status = error.http_status if isinstance(error, FleetError) else _REQUEST_IS_WRONG
    body = {
        "code": error.code,
        "message": error.message,
        "next_step": error.next_step,
        "exit_code": error.exit_code,
    }
    return JSONResponse({"error": body}, status_code=status)
