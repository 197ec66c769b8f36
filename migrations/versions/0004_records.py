"""What was computed from a statement is kept with it: patient-wide messages are made from all of a patient's notes.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE statements ADD COLUMN record JSONB")
    op.execute("CREATE INDEX ix_notes_source_patient_id ON notes (source, patient_id)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_notes_source_patient_id")
    op.execute("ALTER TABLE statements DROP COLUMN record")
