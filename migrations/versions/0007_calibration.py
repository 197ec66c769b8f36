"""A run names the calibration that its statements' probabilities come from; an issue may tell of a duplicate.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_CODES = (
    "'invalid', 'required', 'value', 'structure', 'incomplete', 'code-invalid', 'not-found', 'not-supported', "
    "'business-rule', 'conflict', {}'too-long', 'exception', 'transient', 'timeout', 'lock-error', 'informational'"
)


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN calibration TEXT")
    _allow(_CODES.format("'duplicate', "))


def downgrade() -> None:
    op.execute("UPDATE issues SET code = 'informational' WHERE code = 'duplicate'")
    _allow(_CODES.format(""))
    op.execute("ALTER TABLE runs DROP COLUMN calibration")


def _allow(codes: str) -> None:
    op.execute("ALTER TABLE issues DROP CONSTRAINT ck_issues_code")
    op.execute(f"ALTER TABLE issues ADD CONSTRAINT ck_issues_code CHECK (code IN ({codes}))")
