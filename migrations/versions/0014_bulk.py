"""What a client asked for and fetches later: exports, and notes sent to be answered at once.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE exports (
    id UUID NOT NULL,
    requested_by TEXT NOT NULL,
    principal JSONB NOT NULL,
    url TEXT NOT NULL,
    selection JSONB NOT NULL,
    state TEXT DEFAULT 'accepted' NOT NULL,
    reason TEXT,
    transaction_at TIMESTAMP WITH TIME ZONE,
    files JSONB DEFAULT '[]'::jsonb NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_exports PRIMARY KEY (id),
    CONSTRAINT ck_exports_state CHECK (state IN ('accepted', 'done', 'failed', 'deleted')),
    CONSTRAINT ck_exports_done CHECK (state <> 'done' OR (transaction_at IS NOT NULL AND finished_at IS NOT NULL))
);
CREATE INDEX ix_exports_requested_by ON exports (requested_by);
CREATE INDEX ix_exports_expires_at ON exports (expires_at);

CREATE TABLE export_entries (
    export_id UUID NOT NULL,
    deleted BOOLEAN DEFAULT false NOT NULL,
    type TEXT NOT NULL,
    ordinal BIGINT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    draft BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_export_entries PRIMARY KEY (export_id, deleted, type, ordinal),
    CONSTRAINT fk_export_entries_export_id FOREIGN KEY (export_id) REFERENCES exports (id) ON DELETE CASCADE
);

CREATE TABLE standardize_requests (
    id UUID NOT NULL,
    job_id UUID NOT NULL,
    requested_by TEXT NOT NULL,
    queued BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_standardize_requests PRIMARY KEY (id),
    CONSTRAINT fk_standardize_requests_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX ix_standardize_requests_job_id ON standardize_requests (job_id);
CREATE INDEX ix_standardize_requests_expires_at ON standardize_requests (expires_at);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE standardize_requests, export_entries, exports")
