"""Audit events tell of every access, in a chain of hashes; workers tell that they live; indexes on times.

Revision ID: 0010
"""

from alembic import op

from app import audit

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

FORMER = "'accept', 'amend', 'reject', 'add', 'release', 'supersede', 'opt-out', 'opt-in', 'export'"
# NOT VALID: the rows that are there obey a narrower rule already, and need no second look while the table is locked.
UP = f"""
ALTER TABLE audit_events
    ALTER COLUMN subject DROP NOT NULL,
    ADD COLUMN outcome TEXT,
    ADD COLUMN type TEXT,
    ADD COLUMN ids TEXT[],
    ADD COLUMN patients TEXT[],
    ADD COLUMN query_names TEXT[],
    ADD COLUMN route TEXT,
    ADD COLUMN status SMALLINT,
    ADD COLUMN address TEXT,
    ADD COLUMN request_id TEXT,
    ADD COLUMN previous TEXT,
    ADD COLUMN hash TEXT,
    DROP CONSTRAINT ck_audit_events_action,
    ADD CONSTRAINT ck_audit_events_action CHECK (action IN ({FORMER}, 'read', 'search', 'create', 'update', 'delete',
        'execute', 'login', 'login-failed', 'logout', 'token', 'admin', 'push', 'convert', 'replay', 'purge', 'backup',
        'restore', 'chain')) NOT VALID,
    ADD CONSTRAINT ck_audit_events_outcome CHECK (outcome IN ('begun', 'success', 'refused', 'failed')) NOT VALID,
    ADD CONSTRAINT ck_audit_events_chain CHECK (num_nulls(previous, hash) IN (0, 2)
        AND previous ~ '^[0-9a-f]{{64}}$' AND hash ~ '^[0-9a-f]{{64}}$') NOT VALID;
CREATE UNIQUE INDEX uq_audit_events_previous ON audit_events (previous);
CREATE INDEX ix_audit_events_acted_by_id ON audit_events (acted_by, id);
CREATE INDEX ix_audit_events_action_id ON audit_events (action, id);
CREATE INDEX ix_audit_events_recorded_at ON audit_events USING brin (recorded_at);
CREATE INDEX ix_audit_events_patients ON audit_events USING gin (patients);

CREATE TABLE workers (
    id TEXT NOT NULL,
    version TEXT NOT NULL,
    model TEXT,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    slots BIGINT,
    busy BIGINT DEFAULT 0 NOT NULL,
    waiting BIGINT DEFAULT 0 NOT NULL,
    prompt_tokens BIGINT DEFAULT 0 NOT NULL,
    output_tokens BIGINT DEFAULT 0 NOT NULL,
    slot_steps BIGINT DEFAULT 0 NOT NULL,
    step_slots BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (id),
    CONSTRAINT ck_workers_id CHECK (id <> '')
);
CREATE INDEX ix_workers_seen_at ON workers (seen_at);

CREATE INDEX ix_jobs_finished_at ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX ix_notes_received_at ON notes (received_at);
CREATE INDEX ix_runs_created_at ON runs (created_at);
"""

# What the former table cannot hold goes: accesses have no subject.
DOWN = f"""
DROP TABLE workers;
DROP INDEX ix_jobs_finished_at, ix_notes_received_at, ix_runs_created_at, ix_audit_events_acted_by_id,
    ix_audit_events_action_id, ix_audit_events_recorded_at;
ALTER TABLE audit_events DISABLE TRIGGER append_only;
DELETE FROM audit_events WHERE subject IS NULL OR action NOT IN ({FORMER});
ALTER TABLE audit_events ENABLE TRIGGER append_only;
ALTER TABLE audit_events
    DROP CONSTRAINT ck_audit_events_action,
    ADD CONSTRAINT ck_audit_events_action CHECK (action IN ({FORMER})),
    DROP COLUMN outcome, DROP COLUMN type, DROP COLUMN ids, DROP COLUMN patients, DROP COLUMN query_names,
    DROP COLUMN route, DROP COLUMN status, DROP COLUMN address, DROP COLUMN request_id,
    DROP COLUMN previous, DROP COLUMN hash,
    ALTER COLUMN subject SET NOT NULL;
"""  # noqa: S608


def upgrade() -> None:
    op.execute(UP)
    audit.begin_chain(op.get_bind())


def downgrade() -> None:
    op.execute(DOWN)
