"""Batches, their input and their notes; jobs that let others go first.

Revision ID: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# A constant default: no row of jobs is written. The index of jobs holds what waits alone, so it is made in a moment; that of
# a million resources takes a second or two.
UP = """
ALTER TABLE jobs ADD COLUMN priority SMALLINT DEFAULT 0 NOT NULL;
DROP INDEX ix_jobs_queued;
CREATE INDEX ix_jobs_queued ON jobs (priority, queued_at) WHERE state = 'queued';

-- The review of a result, and the deletion of a run, look for its resources: without it each reads the whole table.
CREATE INDEX ix_resources_run_id ON resources (run_id);

CREATE TABLE batches (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    format TEXT NOT NULL,
    defaults JSONB DEFAULT '{}'::jsonb NOT NULL,
    rate TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    state TEXT DEFAULT 'receiving' NOT NULL,
    reason TEXT,
    closed BOOLEAN DEFAULT false NOT NULL,
    bytes BIGINT DEFAULT 0 NOT NULL,
    sha256 TEXT,
    total BIGINT,
    position BIGINT DEFAULT 0 NOT NULL,
    line BIGINT DEFAULT 0 NOT NULL,
    items BIGINT DEFAULT 0 NOT NULL,
    exhausted BOOLEAN DEFAULT false NOT NULL,
    added BIGINT DEFAULT 0 NOT NULL,
    corrected BIGINT DEFAULT 0 NOT NULL,
    known BIGINT DEFAULT 0 NOT NULL,
    refused BIGINT DEFAULT 0 NOT NULL,
    done BIGINT DEFAULT 0 NOT NULL,
    failed BIGINT DEFAULT 0 NOT NULL,
    cancelled BIGINT DEFAULT 0 NOT NULL,
    next_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT ck_batches_format CHECK (format IN ('ndjson', 'csv', 'zip', 'ssmix2', 'prepared')),
    CONSTRAINT ck_batches_state CHECK (state IN ('receiving', 'running', 'paused', 'cancelled', 'failed', 'done')),
    CONSTRAINT ck_batches_not_empty CHECK (name <> '' AND source <> '' AND created_by <> ''),
    CONSTRAINT ck_batches_sha256
        CHECK (sha256 ~ '^[0-9a-f]{64}$' AND (sha256 IS NOT NULL OR state IN ('receiving', 'cancelled'))),
    CONSTRAINT ck_batches_items CHECK (items = added + corrected + known + refused),
    CONSTRAINT ck_batches_not_negative CHECK (done >= 0 AND failed >= 0 AND cancelled >= 0),
    CONSTRAINT ck_batches_finished CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_batches_paused_is_closed CHECK (state <> 'paused' OR closed)
);
CREATE INDEX ix_batches_closed ON batches (id) WHERE closed;
CREATE INDEX ix_batches_created_at ON batches (created_at);
CREATE INDEX ix_batches_open ON batches (created_at) WHERE state IN ('receiving', 'running', 'paused');

CREATE TABLE batch_chunks (
    batch_id UUID NOT NULL,
    number BIGINT NOT NULL,
    content BYTEA NOT NULL,
    CONSTRAINT pk_batch_chunks PRIMARY KEY (batch_id, number),
    CONSTRAINT fk_batch_chunks_batch_id FOREIGN KEY (batch_id) REFERENCES batches (id) ON DELETE CASCADE
);

CREATE TABLE batch_items (
    batch_id UUID NOT NULL,
    position BIGINT NOT NULL,
    place TEXT NOT NULL,
    external_id TEXT,
    note_id UUID,
    job_id UUID,
    intake TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    ended_at TIMESTAMP WITH TIME ZONE,
    seconds DOUBLE PRECISION,
    statements BIGINT,
    resources BIGINT,
    issues BIGINT,
    uncoded BIGINT,
    held BIGINT,
    CONSTRAINT pk_batch_items PRIMARY KEY (batch_id, position),
    CONSTRAINT ck_batch_items_intake CHECK (intake IN ('new', 'corrected', 'known', 'refused')),
    CONSTRAINT ck_batch_items_state CHECK (state IN ('open', 'retry', 'done', 'failed', 'cancelled', 'refused')),
    CONSTRAINT ck_batch_items_position CHECK (position >= 1),
    CONSTRAINT ck_batch_items_refused
        CHECK ((intake = 'refused') = (state = 'refused') AND (job_id IS NULL) = (intake = 'refused')),
    CONSTRAINT ck_batch_items_ended CHECK ((state IN ('open', 'retry')) = (ended_at IS NULL)),
    CONSTRAINT fk_batch_items_batch_id FOREIGN KEY (batch_id) REFERENCES batches (id) ON DELETE CASCADE,
    CONSTRAINT fk_batch_items_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE
);
CREATE INDEX ix_batch_items_errors ON batch_items (batch_id, position)
    WHERE state IN ('failed', 'cancelled', 'refused');
CREATE INDEX ix_batch_items_note_id ON batch_items (note_id);
CREATE INDEX ix_batch_items_open ON batch_items (batch_id, state, position) WHERE state IN ('open', 'retry');

CREATE TABLE batch_minutes (
    batch_id UUID NOT NULL,
    minute TIMESTAMP WITH TIME ZONE NOT NULL,
    ended BIGINT NOT NULL,
    CONSTRAINT pk_batch_minutes PRIMARY KEY (batch_id, minute),
    CONSTRAINT fk_batch_minutes_batch_id FOREIGN KEY (batch_id) REFERENCES batches (id) ON DELETE CASCADE
);
"""

DOWN = """
DROP TABLE batch_minutes, batch_items, batch_chunks, batches;
DROP INDEX ix_resources_run_id;
DROP INDEX ix_jobs_queued;
CREATE INDEX ix_jobs_queued ON jobs (queued_at) WHERE state = 'queued';
ALTER TABLE jobs DROP COLUMN priority;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
