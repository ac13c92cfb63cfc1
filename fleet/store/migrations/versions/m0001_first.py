# SPDX-License-Identifier: Apache-2.0
"""The first version of the database.

Until the first release it creates what ``store.tables`` says; from then on it is
frozen, and every change is a migration of its own.
"""

from alembic import op

from fleet.store.alert_tables import alerts

metadata = alerts.metadata  # of the tables in ``tables`` as well
revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Drop all tables."""
    metadata.drop_all(op.get_bind())
