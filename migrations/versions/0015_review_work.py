"""The queue of reviews with who works on what, undone and coded decisions, releases that can be withdrawn, second readers.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

FORMER_ACTIONS = """'accept', 'amend', 'reject', 'add', 'release', 'supersede', 'opt-out', 'opt-in', 'export', 'read', 'search',
    'create', 'update', 'delete', 'execute', 'login', 'login-failed', 'logout', 'token', 'admin', 'push', 'convert', 'replay',
    'purge', 'backup', 'restore', 'chain'"""
NEW_ACTIONS = "'undo', 'withdraw', 'second-reading', 'adjudicate'"
APPEND_ONLY = {
    "releases": "DELETE",
    "released_records": "UPDATE OR DELETE",
    "second_readings": "DELETE",
    "second_decisions": "UPDATE OR DELETE",
    "second_comparisons": "DELETE",
}
TRIGGERS = "".join(f"""
CREATE TRIGGER append_only BEFORE {changes} ON {table} FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION append_only();
""" for table, changes in APPEND_ONLY.items())  # fmt: skip

FILL = """
INSERT INTO review_work (note_id, run_id, state, open, drug_allergies_open, lowest_probability, calm, likelihood, kinds,
    second_reader, department, document_type, received_at, batch_id)
SELECT n.id, v.run_id,
    CASE WHEN v.released_at IS NOT NULL THEN 'released' WHEN w.open > 0 THEN 'open' ELSE 'decided' END,
    w.open, w.grave, w.lowest, w.grave = 0, CASE WHEN w.unknown THEN 0 ELSE coalesce(w.lowest, 1) END,
    w.kinds || CASE WHEN w.grave > 0 THEN ARRAY['drug-allergy'] ELSE '{}' END, false,
    n.department, n.document_type, n.received_at, j.batch_id
FROM note_reviews v JOIN notes n ON n.id = v.note_id JOIN runs r ON r.id = v.run_id JOIN jobs j ON j.id = r.job_id
CROSS JOIN LATERAL (
    SELECT count(*) AS open, count(*) FILTER (WHERE i.explicit) AS grave,
        min((s.record ->> 'probability')::double precision) AS lowest,
        coalesce(bool_or(s.record ->> 'probability' IS NULL), false) AS unknown,
        coalesce(array_agg(DISTINCT s.kind), '{}') AS kinds
    FROM reviews i JOIN statements s ON s.id = i.statement_id
    WHERE i.run_id = v.run_id AND NOT EXISTS (SELECT FROM decisions d WHERE d.review_id = i.id)
) w
WHERE v.superseded_at IS NULL
"""
# The queue is filled before anything is locked. NOT VALID: the rows that are there obey a narrower rule already, and need no
# second look while the table is locked.
UP = f"""
CREATE TABLE review_work (
    note_id UUID NOT NULL,
    run_id UUID NOT NULL,
    state TEXT NOT NULL,
    open BIGINT NOT NULL,
    drug_allergies_open BIGINT NOT NULL,
    lowest_probability DOUBLE PRECISION,
    calm BOOLEAN NOT NULL,
    likelihood DOUBLE PRECISION NOT NULL,
    kinds TEXT[] NOT NULL,
    second_reader BOOLEAN NOT NULL,
    department TEXT NOT NULL,
    document_type TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    batch_id UUID,
    assigned_to TEXT,
    assigned_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_review_work PRIMARY KEY (note_id),
    CONSTRAINT uq_review_work_run_id UNIQUE (run_id),
    CONSTRAINT ck_review_work_state CHECK (state IN ('open', 'differing', 'decided', 'released')),
    CONSTRAINT ck_review_work_open CHECK (open >= drug_allergies_open AND drug_allergies_open >= 0),
    CONSTRAINT ck_review_work_assigned
        CHECK ((assigned_to IS NULL) = (assigned_until IS NULL) AND assigned_to <> '')
);
{FILL};
CREATE INDEX ix_review_work_batch_id ON review_work (batch_id);
CREATE INDEX ix_review_work_risk ON review_work (state, calm, likelihood, received_at, note_id);
CREATE INDEX ix_review_work_assigned_to ON review_work (assigned_to) WHERE assigned_to IS NOT NULL;

CREATE TABLE releases (
    id UUID NOT NULL,
    run_id UUID NOT NULL,
    note_id UUID NOT NULL,
    released_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    released_by TEXT NOT NULL,
    withdrawn_at TIMESTAMP WITH TIME ZONE,
    withdrawn_by TEXT,
    reason TEXT,
    CONSTRAINT pk_releases PRIMARY KEY (id),
    CONSTRAINT fk_releases_run_id FOREIGN KEY (run_id) REFERENCES note_reviews (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_releases_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT ck_releases_released_by CHECK (released_by <> ''),
    CONSTRAINT ck_releases_withdrawn
        CHECK (num_nulls(withdrawn_at, withdrawn_by, reason) IN (0, 3) AND withdrawn_by <> '')
);
CREATE INDEX ix_releases_run_id ON releases (run_id);
CREATE INDEX ix_releases_note_id ON releases (note_id);
CREATE UNIQUE INDEX uq_releases_in_force ON releases (run_id) WHERE withdrawn_at IS NULL;

CREATE TABLE released_records (
    release_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    review_id UUID NOT NULL,
    record JSONB NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    CONSTRAINT pk_released_records PRIMARY KEY (release_id, ordinal),
    CONSTRAINT fk_released_records_release_id FOREIGN KEY (release_id) REFERENCES releases (id) ON DELETE CASCADE,
    CONSTRAINT fk_released_records_review_id FOREIGN KEY (review_id) REFERENCES reviews (id) ON DELETE CASCADE
);
CREATE INDEX ix_released_records_review_id ON released_records (review_id);

CREATE TABLE second_readings (
    run_id UUID NOT NULL,
    note_id UUID NOT NULL,
    chosen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    chosen_by TEXT NOT NULL,
    reader TEXT,
    begun_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    compared_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_second_readings PRIMARY KEY (run_id),
    CONSTRAINT fk_second_readings_run_id FOREIGN KEY (run_id) REFERENCES note_reviews (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_second_readings_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT ck_second_readings_not_empty CHECK (chosen_by <> '' AND reader <> ''),
    CONSTRAINT ck_second_readings_begun CHECK ((reader IS NULL) = (begun_at IS NULL)),
    CONSTRAINT ck_second_readings_finished CHECK (finished_at IS NULL OR reader IS NOT NULL),
    CONSTRAINT ck_second_readings_compared CHECK (compared_at IS NULL OR finished_at IS NOT NULL)
);
CREATE INDEX ix_second_readings_note_id ON second_readings (note_id);

CREATE TABLE second_decisions (
    id UUID NOT NULL,
    run_id UUID NOT NULL,
    item UUID NOT NULL,
    review_id UUID,
    version BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    statement JSONB,
    coding JSONB,
    restores BIGINT,
    spent_ms BIGINT,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_second_decisions PRIMARY KEY (id),
    CONSTRAINT fk_second_decisions_run_id FOREIGN KEY (run_id) REFERENCES second_readings (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_second_decisions_review_id FOREIGN KEY (review_id) REFERENCES reviews (id) ON DELETE CASCADE,
    CONSTRAINT uq_second_decisions_item_version UNIQUE (item, version),
    CONSTRAINT ck_second_decisions_verdict CHECK (verdict IN ('accept', 'amend', 'reject', 'add', 'undo')),
    CONSTRAINT ck_second_decisions_version CHECK (version >= 1 AND (verdict <> 'add' OR version = 1)),
    CONSTRAINT ck_second_decisions_statement CHECK ((statement IS NOT NULL) = (verdict IN ('amend', 'add'))),
    CONSTRAINT ck_second_decisions_coding CHECK (coding IS NULL OR statement IS NOT NULL),
    CONSTRAINT ck_second_decisions_restores CHECK ((restores IS NOT NULL) = (verdict = 'undo')
        AND (restores IS NULL OR restores BETWEEN 0 AND version - 2)),
    CONSTRAINT ck_second_decisions_spent_ms CHECK (spent_ms BETWEEN 0 AND 3600000),
    CONSTRAINT ck_second_decisions_decided_by CHECK (decided_by <> '')
);
CREATE INDEX ix_second_decisions_run_id ON second_decisions (run_id);
CREATE INDEX ix_second_decisions_review_id ON second_decisions (review_id);

CREATE TABLE second_comparisons (
    id UUID NOT NULL,
    run_id UUID NOT NULL,
    kind TEXT NOT NULL,
    review_id UUID,
    second_item UUID,
    first TEXT,
    second TEXT,
    same BOOLEAN NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    settled_by TEXT,
    settled_as TEXT,
    agreed BOOLEAN,
    CONSTRAINT pk_second_comparisons PRIMARY KEY (id),
    CONSTRAINT fk_second_comparisons_run_id FOREIGN KEY (run_id) REFERENCES second_readings (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_second_comparisons_review_id FOREIGN KEY (review_id) REFERENCES reviews (id) ON DELETE CASCADE,
    CONSTRAINT ck_second_comparisons_kind CHECK (kind IN ('condition', 'allergy', 'infection', 'lab', 'prescription')),
    CONSTRAINT ck_second_comparisons_item CHECK (num_nonnulls(review_id, second_item) = 1),
    CONSTRAINT ck_second_comparisons_verdicts CHECK (num_nonnulls(first, second) >= 1),
    CONSTRAINT ck_second_comparisons_settled CHECK (num_nulls(settled_at, settled_by, settled_as, agreed) IN (0, 4)
        AND NOT (same AND settled_at IS NOT NULL)),
    CONSTRAINT ck_second_comparisons_settled_as CHECK (settled_as IN ('first', 'second', 'other'))
);
CREATE INDEX ix_second_comparisons_run_id ON second_comparisons (run_id);
CREATE INDEX ix_second_comparisons_review_id ON second_comparisons (review_id);
{TRIGGERS}
ALTER TABLE review_work
    ADD CONSTRAINT fk_review_work_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE NOT VALID,
    ADD CONSTRAINT fk_review_work_run_id FOREIGN KEY (run_id) REFERENCES note_reviews (run_id) ON DELETE CASCADE NOT VALID;
ALTER TABLE ssmix2_messages ADD COLUMN release_id UUID,
    ADD CONSTRAINT fk_ssmix2_messages_release_id FOREIGN KEY (release_id) REFERENCES releases (id) ON DELETE CASCADE NOT VALID;
CREATE INDEX ix_ssmix2_messages_release_id ON ssmix2_messages (release_id) WHERE release_id IS NOT NULL;
ALTER TABLE audit_events
    DROP CONSTRAINT ck_audit_events_action,
    ADD CONSTRAINT ck_audit_events_action CHECK (action IN ({FORMER_ACTIONS}, {NEW_ACTIONS})) NOT VALID;
ALTER TABLE decisions
    ADD COLUMN restores BIGINT,
    ADD COLUMN coding JSONB,
    ADD COLUMN spent_ms BIGINT,
    DROP CONSTRAINT ck_decisions_verdict,
    ADD CONSTRAINT ck_decisions_verdict CHECK (verdict IN ('accept', 'amend', 'reject', 'add', 'undo')) NOT VALID,
    ADD CONSTRAINT ck_decisions_restores CHECK ((restores IS NOT NULL) = (verdict = 'undo')
        AND (restores IS NULL OR restores BETWEEN 0 AND version - 2)) NOT VALID,
    ADD CONSTRAINT ck_decisions_coding CHECK (coding IS NULL OR statement IS NOT NULL) NOT VALID,
    ADD CONSTRAINT ck_decisions_spent_ms CHECK (spent_ms BETWEEN 0 AND 3600000) NOT VALID;
CREATE INDEX ix_decisions_decided_at ON decisions USING brin (decided_at);
"""

# What the former tables cannot hold goes: undone decisions, and messages of releases. The audit log is kept whole.
DOWN = f"""
DELETE FROM ssmix2_messages WHERE release_id IS NOT NULL;
ALTER TABLE ssmix2_messages DROP COLUMN release_id;
DROP TABLE second_comparisons, second_decisions, second_readings, released_records, releases, review_work;
DROP INDEX ix_decisions_decided_at;
ALTER TABLE decisions DISABLE TRIGGER append_only;
DELETE FROM decisions d WHERE EXISTS (
    SELECT FROM decisions u WHERE u.review_id = d.review_id AND u.verdict = 'undo' AND u.version >= d.version);
ALTER TABLE decisions ENABLE TRIGGER append_only;
ALTER TABLE decisions
    DROP CONSTRAINT ck_decisions_verdict,
    ADD CONSTRAINT ck_decisions_verdict CHECK (verdict IN ('accept', 'amend', 'reject', 'add')),
    DROP COLUMN restores, DROP COLUMN coding, DROP COLUMN spent_ms;
ALTER TABLE audit_events
    DROP CONSTRAINT ck_audit_events_action,
    ADD CONSTRAINT ck_audit_events_action CHECK (action IN ({FORMER_ACTIONS})) NOT VALID;
"""  # noqa: S608


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
