# SPDX-License-Identifier: Apache-2.0
"""Tokens of the HTTP server.

Owns making and comparing tokens. Roles and several users come later; today there is
one token, with all rights, made at each start.
"""

import hmac
import secrets
from dataclasses import dataclass

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class TokenBook:
    """The tokens that a server accepts.

    Args:
        admin: The token with all rights.
        server_id: Names the cookie, so that servers on one host do not share it.
    """

    admin: str
    server_id: str

    @property
    def cookie_name(self) -> str:
        """The cookie that carries the token in a browser."""
        return f"edgeloop_{self.server_id}"

    def find_actor(self, token: str) -> str | None:
        """Return who holds ``token``, None when nobody does."""
        if hmac.compare_digest(token.encode(), self.admin.encode()):
            return ADMIN
        return None


def make_token_book() -> TokenBook:
    """Make a book with a fresh token of 256 bits."""
    return TokenBook(admin=secrets.token_urlsafe(32), server_id=secrets.token_hex(4))
