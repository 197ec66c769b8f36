"""Machines that may ask, and the tokens that they were given; more kinds of issues.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE clients (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    jwks JSONB NOT NULL,
    scopes TEXT[] NOT NULL,
    rights TEXT[] DEFAULT '{}' NOT NULL,
    drafts BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    disabled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_clients PRIMARY KEY (id),
    CONSTRAINT ck_clients_id CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    CONSTRAINT ck_clients_not_empty CHECK (name <> '' AND created_by <> '')
);

CREATE TABLE access_tokens (
    sha256 TEXT NOT NULL,
    client_id TEXT,
    principal JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_access_tokens PRIMARY KEY (sha256),
    CONSTRAINT fk_access_tokens_client_id FOREIGN KEY (client_id) REFERENCES clients (id) ON DELETE CASCADE,
    CONSTRAINT ck_access_tokens_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX ix_access_tokens_client_id ON access_tokens (client_id);
CREATE INDEX ix_access_tokens_expires_at ON access_tokens (expires_at);
"""
_CODES = (
    "'invalid', 'required', 'value', 'structure', 'incomplete', 'code-invalid', 'not-found', {0}'not-supported', "
    "'business-rule', 'conflict', 'duplicate', {1}'too-long', 'exception', {2}'transient', 'timeout', 'lock-error', "
    "'informational'"
)


def upgrade() -> None:
    op.execute(UP)
    _allow(_CODES.format("'deleted', ", "'multiple-matches', ", "'login', 'forbidden', 'throttled', "))


def downgrade() -> None:
    op.execute("DROP TABLE access_tokens, clients")
    op.execute(
        "UPDATE issues SET code = 'informational'"
        " WHERE code IN ('deleted', 'multiple-matches', 'login', 'forbidden', 'throttled')"
    )
    _allow(_CODES.format("", "", ""))


def _allow(codes: str) -> None:
    op.execute("ALTER TABLE issues DROP CONSTRAINT ck_issues_code")
    op.execute(f"ALTER TABLE issues ADD CONSTRAINT ck_issues_code CHECK (code IN ({codes}))")
