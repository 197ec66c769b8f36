"""The tables of `models`, and trigram search over concepts.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE notes (
    id UUID NOT NULL,
    source TEXT NOT NULL,
    external_id TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    patient_family TEXT NOT NULL,
    patient_given TEXT NOT NULL,
    patient_sex TEXT NOT NULL,
    patient_birth_date DATE,
    document_type TEXT NOT NULL,
    department TEXT NOT NULL,
    note_date DATE NOT NULL,
    text TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_notes PRIMARY KEY (id),
    CONSTRAINT uq_notes_content_sha256 UNIQUE (content_sha256),
    CONSTRAINT ck_notes_content_sha256 CHECK (content_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_notes_text CHECK (text <> ''),
    CONSTRAINT ck_notes_patient_sex CHECK (patient_sex IN ('male', 'female', 'other', 'unknown')),
    CONSTRAINT ck_notes_document_type
        CHECK (document_type IN ('progress', 'admission', 'preop', 'referral', 'reply', 'discharge',
        'nursing', 'emergency', 'homecare', 'checkup'))
);
CREATE INDEX ix_notes_patient_id_note_date ON notes (patient_id, note_date);
CREATE INDEX ix_notes_source_external_id ON notes (source, external_id);

CREATE TABLE jobs (
    id UUID NOT NULL,
    note_id UUID NOT NULL,
    batch_id UUID,
    state TEXT DEFAULT 'queued' NOT NULL,
    reason TEXT,
    attempts BIGINT DEFAULT 0 NOT NULL,
    fence BIGINT DEFAULT 0 NOT NULL,
    dispatches BIGINT DEFAULT 0 NOT NULL,
    worker TEXT,
    queued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    run_after TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    dispatched_at TIMESTAMP WITH TIME ZONE,
    lease_until TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT ck_jobs_not_negative CHECK (attempts >= 0 AND fence >= 0 AND dispatches >= 0),
    CONSTRAINT ck_jobs_running_has_lease
        CHECK (state <> 'running' OR (lease_until IS NOT NULL AND worker IS NOT NULL)),
    CONSTRAINT ck_jobs_finished CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT fk_jobs_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE
);
CREATE INDEX ix_jobs_batch_id ON jobs (batch_id);
CREATE INDEX ix_jobs_lease ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX ix_jobs_note_id ON jobs (note_id, queued_at);
CREATE INDEX ix_jobs_queued ON jobs (queued_at) WHERE state = 'queued';
CREATE UNIQUE INDEX uq_jobs_open_note ON jobs (note_id) WHERE state IN ('queued', 'running');

CREATE TABLE runs (
    id UUID NOT NULL,
    note_id UUID NOT NULL,
    job_id UUID NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    grammar TEXT NOT NULL,
    terminology TEXT NOT NULL,
    version TEXT NOT NULL,
    seed BIGINT,
    prompt_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_runs PRIMARY KEY (id),
    CONSTRAINT ck_runs_not_negative CHECK (prompt_tokens >= 0 AND output_tokens >= 0 AND duration_ms >= 0),
    CONSTRAINT fk_runs_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT fk_runs_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX ix_runs_job_id ON runs (job_id);
CREATE INDEX ix_runs_note_id ON runs (note_id);

CREATE TABLE statements (
    id UUID NOT NULL,
    note_id UUID NOT NULL,
    run_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    kind TEXT NOT NULL,
    payload JSONB NOT NULL,
    CONSTRAINT pk_statements PRIMARY KEY (id),
    CONSTRAINT uq_statements_run_id_ordinal UNIQUE (run_id, ordinal),
    CONSTRAINT ck_statements_kind CHECK (kind IN ('condition', 'allergy', 'infection', 'lab', 'prescription')),
    CONSTRAINT fk_statements_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT fk_statements_run_id FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_statements_note_id ON statements (note_id);

CREATE TABLE issues (
    id UUID NOT NULL,
    job_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    severity TEXT NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    start BIGINT,
    "end" BIGINT,
    CONSTRAINT pk_issues PRIMARY KEY (id),
    CONSTRAINT ck_issues_severity CHECK (severity IN ('fatal', 'error', 'warning', 'information')),
    CONSTRAINT ck_issues_code
        CHECK (code IN ('invalid', 'required', 'value', 'structure', 'incomplete', 'code-invalid',
        'not-found', 'not-supported', 'business-rule', 'conflict', 'too-long', 'exception',
        'transient', 'timeout', 'lock-error', 'informational')),
    CONSTRAINT fk_issues_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX ix_issues_job_id ON issues (job_id);

CREATE TABLE resources (
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    note_id UUID NOT NULL,
    job_id UUID NOT NULL,
    run_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    patient_id TEXT NOT NULL,
    content JSONB NOT NULL,
    state TEXT DEFAULT 'draft' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_resources PRIMARY KEY (type, id, version),
    CONSTRAINT ck_resources_state CHECK (state IN ('draft', 'final')),
    CONSTRAINT ck_resources_version CHECK (version >= 1),
    CONSTRAINT ck_resources_id CHECK (id ~ '^[A-Za-z0-9.-]{1,64}$'),
    CONSTRAINT ck_resources_content
        CHECK (content ->> 'resourceType' IS NOT DISTINCT FROM type AND content ->> 'id' IS NOT
        DISTINCT FROM id),
    CONSTRAINT fk_resources_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT fk_resources_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_resources_run_id FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_resources_job_id ON resources (job_id);
CREATE INDEX ix_resources_note_id ON resources (note_id);
CREATE INDEX ix_resources_patient_id_type ON resources (patient_id, type);
CREATE INDEX ix_resources_type_created_at ON resources (type, created_at);

CREATE TABLE ssmix2_messages (
    id UUID NOT NULL,
    note_id UUID NOT NULL,
    job_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    kind TEXT NOT NULL,
    order_no TEXT NOT NULL,
    care_date DATE,
    department TEXT NOT NULL,
    payload TEXT NOT NULL,
    CONSTRAINT pk_ssmix2_messages PRIMARY KEY (id),
    CONSTRAINT fk_ssmix2_messages_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT fk_ssmix2_messages_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX ix_ssmix2_messages_job_id ON ssmix2_messages (job_id);
CREATE INDEX ix_ssmix2_messages_note_id ON ssmix2_messages (note_id);

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

CREATE TABLE code_system_releases (
    id UUID NOT NULL,
    system TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT DEFAULT 'importing' NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_code_system_releases PRIMARY KEY (id),
    CONSTRAINT uq_code_system_releases_system_version UNIQUE (system, version),
    CONSTRAINT ck_code_system_releases_state CHECK (state IN ('importing', 'ready'))
);

CREATE TABLE concepts (
    id BIGSERIAL NOT NULL,
    release_id UUID NOT NULL,
    code TEXT NOT NULL,
    display TEXT NOT NULL,
    kana TEXT,
    properties JSONB DEFAULT '{}'::jsonb NOT NULL,
    search_text TEXT NOT NULL,
    CONSTRAINT pk_concepts PRIMARY KEY (id),
    CONSTRAINT fk_concepts_release_id FOREIGN KEY (release_id)
        REFERENCES code_system_releases (id) ON DELETE CASCADE
);
CREATE INDEX ix_concepts_release_id_code ON concepts (release_id, code);
CREATE INDEX ix_concepts_release_id_search_text ON concepts (release_id, search_text);
CREATE INDEX ix_concepts_search_text_trgm ON concepts USING gin (search_text gin_trgm_ops);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE concepts, code_system_releases, reviews, ssmix2_messages, resources, issues")
    op.execute("DROP TABLE statements, runs, jobs, notes")
