"""A run names the adapter that it was made with.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN adapter TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE runs DROP COLUMN adapter")
