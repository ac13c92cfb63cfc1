# SPDX-License-Identifier: Apache-2.0
"""The first version of the database.

Until the first release it creates what ``store.tables`` says; from then on it is
frozen, and every change is a migration of its own.
"""

from alembic import op

from fleet.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Drop all tables."""
    metadata.drop_all(op.get_bind())
