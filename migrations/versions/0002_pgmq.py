"""The default broker's schema: PGMQ as plain SQL, from the `pgmq` package.

It is installed even where another broker is used, so that a change of BROKER_URL needs no migration.

Revision ID: 0002
"""

from alembic import op
from pgmq.install import get_embedded_install_sql
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    # The script cannot run twice (CREATE TYPE, CREATE FUNCTION); PGMQ may also be there as a server extension.
    if connection.scalar(text("SELECT to_regclass('pgmq.meta') IS NOT NULL")):
        return
    # Past SQLAlchemy and without parameters: the script is many statements and full of % and : signs.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(get_embedded_install_sql())


def downgrade() -> None:
    """PGMQ stays: its queues are not ours alone to drop."""
