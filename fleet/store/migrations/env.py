# SPDX-License-Identifier: Apache-2.0
"""What Alembic runs; it takes the connection that ``store.migrate`` hands over."""

from alembic import context

from fleet.store.alert_tables import alerts


def run() -> None:
    """Run the migrations on the connection in the configuration's attributes."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=alerts.metadata)
    with context.begin_transaction():
        context.run_migrations()


run()
