# SPDX-License-Identifier: Apache-2.0
"""Bringing the database to the version of this program.

Owns the call into Alembic, inside one write transaction: a migration that is killed
half-way leaves nothing behind.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Engine

from fleet.errors import StateError
from fleet.store.engine import writing

_FOLDER = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Bring the database to the newest version.

    Raises:
        StateError: The database was made by a newer program.
    """
    config = Config()
    # A percent sign in the path would be read as an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    try:
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        message = f"database {engine.url.database}: expected a known version: {error}"
        step = "run the newer edge-fleet that made this state folder"
        raise StateError(message, next_step=step) from error
