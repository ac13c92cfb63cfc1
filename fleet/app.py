# SPDX-License-Identifier: Apache-2.0
"""The server's composition root.

Owns the list of features and what each is built from. It contains no logic: a feature
that is not in the list does not exist.
"""

from collections.abc import Callable

from fastapi import FastAPI

from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.services import Feature, Services

Builder = Callable[[Services], Feature]

# Order of start; stopped in reverse.
BUILDERS: tuple[Builder, ...] = ()


def build_application(services: Services, book: TokenBook) -> FastAPI:
    """Build the HTTP application with all features."""
    return make_application([build(services) for build in BUILDERS], book)
