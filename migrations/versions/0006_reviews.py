"""Reviews of results, decisions and audit events that cannot be changed, and whose notes are no training data.

The former table of reviews was never written to.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = """
DROP TABLE reviews;

CREATE TABLE note_reviews (
    run_id UUID NOT NULL,
    note_id UUID NOT NULL,
    begun_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    released_at TIMESTAMP WITH TIME ZONE,
    released_by TEXT,
    CONSTRAINT pk_note_reviews PRIMARY KEY (run_id),
    CONSTRAINT fk_note_reviews_run_id FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT fk_note_reviews_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT ck_note_reviews_released
        CHECK ((released_at IS NULL) = (released_by IS NULL) AND released_by <> '')
);
CREATE INDEX ix_note_reviews_note_id ON note_reviews (note_id);
CREATE UNIQUE INDEX uq_note_reviews_current ON note_reviews (note_id) WHERE superseded_at IS NULL;

CREATE TABLE reviews (
    id UUID NOT NULL,
    run_id UUID NOT NULL,
    statement_id UUID,
    resource_type TEXT,
    resource_id TEXT,
    resource_version BIGINT,
    explicit BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_reviews PRIMARY KEY (id),
    CONSTRAINT fk_reviews_run_id FOREIGN KEY (run_id) REFERENCES note_reviews (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_reviews_statement_id FOREIGN KEY (statement_id) REFERENCES statements (id) ON DELETE CASCADE,
    CONSTRAINT fk_reviews_resource_type_resource_id_resource_version
        FOREIGN KEY (resource_type, resource_id, resource_version)
        REFERENCES resources (type, id, version) ON DELETE CASCADE,
    CONSTRAINT uq_reviews_statement_id UNIQUE (statement_id),
    CONSTRAINT uq_reviews_resource_type_resource_id_resource_version
        UNIQUE (resource_type, resource_id, resource_version),
    CONSTRAINT uq_reviews_id_explicit UNIQUE (id, explicit),
    CONSTRAINT ck_reviews_resource
        CHECK (num_nulls(resource_type, resource_id, resource_version) IN (0, 3)
        AND (statement_id IS NOT NULL OR resource_id IS NULL))
);
CREATE INDEX ix_reviews_run_id ON reviews (run_id);

CREATE TABLE decisions (
    id UUID NOT NULL,
    review_id UUID NOT NULL,
    explicit BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    statement JSONB,
    automatic BOOLEAN DEFAULT false NOT NULL,
    reason TEXT,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_decisions PRIMARY KEY (id),
    CONSTRAINT fk_decisions_review_id_explicit FOREIGN KEY (review_id, explicit)
        REFERENCES reviews (id, explicit) ON DELETE CASCADE,
    CONSTRAINT uq_decisions_review_id_version UNIQUE (review_id, version),
    CONSTRAINT ck_decisions_verdict CHECK (verdict IN ('accept', 'amend', 'reject', 'add')),
    CONSTRAINT ck_decisions_version CHECK (version >= 1 AND (verdict <> 'add' OR version = 1)),
    CONSTRAINT ck_decisions_statement CHECK ((statement IS NOT NULL) = (verdict IN ('amend', 'add'))),
    CONSTRAINT ck_decisions_automatic
        CHECK (NOT automatic OR (verdict = 'accept' AND version = 1 AND NOT explicit)),
    CONSTRAINT ck_decisions_not_empty CHECK (decided_by <> '' AND reason <> '')
);

CREATE TABLE audit_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    action TEXT NOT NULL,
    acted_by TEXT NOT NULL,
    note_id UUID,
    subject UUID NOT NULL,
    before TEXT,
    after TEXT,
    CONSTRAINT pk_audit_events PRIMARY KEY (id),
    CONSTRAINT ck_audit_events_action
        CHECK (action IN ('accept', 'amend', 'reject', 'add', 'release', 'supersede', 'opt-out', 'opt-in', 'export')),
    CONSTRAINT ck_audit_events_acted_by CHECK (acted_by <> ''),
    CONSTRAINT ck_audit_events_fingerprints CHECK (before ~ '^[0-9a-f]{64}$' AND after ~ '^[0-9a-f]{64}$')
);
CREATE INDEX ix_audit_events_note_id ON audit_events (note_id);

CREATE TABLE training_opt_outs (
    id UUID NOT NULL,
    source TEXT NOT NULL,
    patient_id TEXT,
    external_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_by TEXT,
    CONSTRAINT pk_training_opt_outs PRIMARY KEY (id),
    CONSTRAINT ck_training_opt_outs_one_subject CHECK (num_nulls(patient_id, external_id) = 1),
    CONSTRAINT ck_training_opt_outs_created_by CHECK (created_by <> ''),
    CONSTRAINT ck_training_opt_outs_ended CHECK ((ended_at IS NULL) = (ended_by IS NULL) AND ended_by <> '')
);
CREATE UNIQUE INDEX uq_training_opt_outs_patient ON training_opt_outs (source, patient_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX uq_training_opt_outs_note ON training_opt_outs (source, external_id) WHERE ended_at IS NULL;

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What a foreign key deletes with the note itself runs inside that key's own trigger.
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME <> 'audit_events' AND pg_trigger_depth() > 1 THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER append_only BEFORE DELETE ON note_reviews FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON note_reviews FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON reviews FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON reviews FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON decisions FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON decisions FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION append_only();
"""

DOWN = """
DROP TABLE training_opt_outs, audit_events, decisions, reviews, note_reviews;
DROP FUNCTION append_only();
CREATE TABLE reviews (
    id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    decision TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_reviews PRIMARY KEY (id),
    CONSTRAINT fk_reviews_resource_type_resource_id_resource_version
        FOREIGN KEY (resource_type, resource_id, resource_version)
        REFERENCES resources (type, id, version) ON DELETE CASCADE,
    CONSTRAINT ck_reviews_decision CHECK (decision IN ('accept', 'amend', 'reject')),
    CONSTRAINT ck_reviews_decided_by CHECK (decided_by <> '')
);
CREATE INDEX ix_reviews_resource_type_resource_id_resource_version
    ON reviews (resource_type, resource_id, resource_version);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
