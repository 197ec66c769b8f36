"""Machines and people who may ask, and the tokens and sessions that they were given; more kinds of issues.

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

CREATE TABLE used_assertions (
    client_id TEXT NOT NULL,
    jti_sha256 TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_used_assertions PRIMARY KEY (client_id, jti_sha256),
    CONSTRAINT fk_used_assertions_client_id FOREIGN KEY (client_id) REFERENCES clients (id) ON DELETE CASCADE
);
CREATE INDEX ix_used_assertions_expires_at ON used_assertions (expires_at);

CREATE TABLE users (
    id UUID NOT NULL,
    login TEXT NOT NULL,
    name TEXT NOT NULL,
    roles TEXT[] NOT NULL,
    password_hash TEXT,
    issuer TEXT,
    subject TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    disabled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_login UNIQUE (login),
    CONSTRAINT uq_users_issuer_subject UNIQUE (issuer, subject),
    CONSTRAINT ck_users_login CHECK (login ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
    CONSTRAINT ck_users_not_empty CHECK (name <> '' AND created_by <> ''),
    CONSTRAINT ck_users_roles CHECK (roles <@ ARRAY['integrator', 'reviewer', 'admin']),
    CONSTRAINT ck_users_subject CHECK ((issuer IS NULL) = (subject IS NULL))
);

CREATE TABLE user_sessions (
    sha256 TEXT NOT NULL,
    user_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_user_sessions PRIMARY KEY (sha256),
    CONSTRAINT fk_user_sessions_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT ck_user_sessions_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX ix_user_sessions_user_id ON user_sessions (user_id);
CREATE INDEX ix_user_sessions_expires_at ON user_sessions (expires_at);

CREATE TABLE one_time_links (
    sha256 TEXT NOT NULL,
    user_id UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_one_time_links PRIMARY KEY (sha256),
    CONSTRAINT fk_one_time_links_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT ck_one_time_links_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX ix_one_time_links_user_id ON one_time_links (user_id);

CREATE TABLE login_attempts (
    sha256 TEXT NOT NULL,
    failures BIGINT NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    locked_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_login_attempts PRIMARY KEY (sha256),
    CONSTRAINT ck_login_attempts_failures CHECK (failures > 0)
);
CREATE INDEX ix_login_attempts_last_at ON login_attempts (last_at);

CREATE TABLE oidc_logins (
    state_sha256 TEXT NOT NULL,
    nonce TEXT NOT NULL,
    verifier TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_oidc_logins PRIMARY KEY (state_sha256)
);
CREATE INDEX ix_oidc_logins_expires_at ON oidc_logins (expires_at);
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
    op.execute(
        "DROP TABLE oidc_logins, login_attempts, one_time_links, user_sessions, users, used_assertions, access_tokens, clients"
    )
    op.execute(
        "UPDATE issues SET code = 'informational'"
        " WHERE code IN ('deleted', 'multiple-matches', 'login', 'forbidden', 'throttled')"
    )
    _allow(_CODES.format("", "", ""))


def _allow(codes: str) -> None:
    op.execute("ALTER TABLE issues DROP CONSTRAINT ck_issues_code")
    op.execute(f"ALTER TABLE issues ADD CONSTRAINT ck_issues_code CHECK (code IN ({codes}))")
