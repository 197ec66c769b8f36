"""Claim files (レセプト), what is found in their claims, decisions on it, imported tables; jobs that check a claim.

Revision ID: 0016
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# NOT VALID: every row there is fulfils the constraints, and a look at each would hold everybody up meanwhile.
UP = """
CREATE TABLE receipt_tables (
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    edition TEXT,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    rows BIGINT NOT NULL,
    whole BOOLEAN NOT NULL,
    content TEXT NOT NULL,
    active BOOLEAN DEFAULT false NOT NULL,
    imported_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    imported_by TEXT NOT NULL,
    CONSTRAINT pk_receipt_tables PRIMARY KEY (id),
    CONSTRAINT uq_receipt_tables_kind_sha256 UNIQUE (kind, sha256),
    CONSTRAINT ck_receipt_tables_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_receipt_tables_not_empty CHECK (rows >= 0 AND kind <> '' AND imported_by <> '')
);
CREATE UNIQUE INDEX uq_receipt_tables_active ON receipt_tables (kind) WHERE active;

CREATE TABLE receipt_files (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    content BYTEA NOT NULL,
    institution TEXT,
    claims BIGINT DEFAULT 0 NOT NULL,
    faults JSONB DEFAULT '[]'::jsonb NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    CONSTRAINT pk_receipt_files PRIMARY KEY (id),
    CONSTRAINT uq_receipt_files_sha256 UNIQUE (sha256),
    CONSTRAINT ck_receipt_files_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_receipt_files_not_empty CHECK (claims >= 0 AND created_by <> '')
);
ALTER TABLE receipt_files ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX ix_receipt_files_created_at ON receipt_files (created_at);

CREATE TABLE receipt_claims (
    id UUID NOT NULL,
    file_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    line BIGINT NOT NULL,
    last_line BIGINT NOT NULL,
    byte_start BIGINT NOT NULL,
    byte_end BIGINT NOT NULL,
    number BIGINT,
    chart_number TEXT,
    month DATE,
    inpatient BOOLEAN NOT NULL,
    faults JSONB NOT NULL,
    tables TEXT NOT NULL,
    findings JSONB NOT NULL,
    note_ids JSONB NOT NULL,
    run JSONB,
    issues JSONB DEFAULT '[]'::jsonb NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_receipt_claims PRIMARY KEY (id),
    CONSTRAINT fk_receipt_claims_file_id FOREIGN KEY (file_id) REFERENCES receipt_files (id) ON DELETE CASCADE,
    CONSTRAINT uq_receipt_claims_file_id_ordinal UNIQUE (file_id, ordinal),
    CONSTRAINT ck_receipt_claims_place
        CHECK (ordinal >= 0 AND line >= 1 AND last_line >= line AND byte_start >= 0 AND byte_end > byte_start)
);
CREATE INDEX ix_receipt_claims_note_ids ON receipt_claims USING gin (note_ids);

CREATE TABLE receipt_items (
    id UUID NOT NULL,
    claim_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    line BIGINT NOT NULL,
    finding JSONB,
    advice JSONB,
    state TEXT DEFAULT 'open' NOT NULL,
    edited JSONB,
    decided_by TEXT,
    decided_at TIMESTAMP WITH TIME ZONE,
    version BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_receipt_items PRIMARY KEY (id),
    CONSTRAINT fk_receipt_items_claim_id FOREIGN KEY (claim_id) REFERENCES receipt_claims (id) ON DELETE CASCADE,
    CONSTRAINT ck_receipt_items_state CHECK (state IN ('open', 'accepted', 'edited', 'rejected')),
    CONSTRAINT ck_receipt_items_said CHECK (num_nonnulls(finding, advice) >= 1),
    CONSTRAINT ck_receipt_items_edited CHECK ((state = 'edited') = (edited IS NOT NULL)),
    CONSTRAINT ck_receipt_items_decided CHECK ((state <> 'open') = (decided_by IS NOT NULL)
        AND (decided_by IS NULL) = (decided_at IS NULL) AND decided_by <> ''),
    CONSTRAINT ck_receipt_items_not_negative CHECK (ordinal >= 0 AND version >= 0 AND line >= 1)
);
CREATE INDEX ix_receipt_items_claim_id_line_ordinal ON receipt_items (claim_id, line, ordinal);
CREATE INDEX ix_receipt_items_open ON receipt_items (claim_id) WHERE state = 'open';

ALTER TABLE jobs ADD COLUMN receipt_claim_id UUID,
    DROP CONSTRAINT ck_jobs_one_note,
    ADD CONSTRAINT ck_jobs_one_subject CHECK (num_nonnulls(note_id, trial_note_id, receipt_claim_id) = 1) NOT VALID,
    ADD CONSTRAINT fk_jobs_receipt_claim_id FOREIGN KEY (receipt_claim_id) REFERENCES receipt_claims (id)
        ON DELETE CASCADE NOT VALID;
CREATE UNIQUE INDEX uq_jobs_receipt_claim_id ON jobs (receipt_claim_id) WHERE receipt_claim_id IS NOT NULL;
"""

# The former version knows no claims, so their jobs go with them.
DOWN = """
DELETE FROM jobs WHERE receipt_claim_id IS NOT NULL;
DROP INDEX uq_jobs_receipt_claim_id;
ALTER TABLE jobs DROP CONSTRAINT ck_jobs_one_subject, DROP CONSTRAINT fk_jobs_receipt_claim_id,
    DROP COLUMN receipt_claim_id,
    ADD CONSTRAINT ck_jobs_one_note CHECK (num_nonnulls(note_id, trial_note_id) = 1) NOT VALID;
DROP TABLE receipt_items, receipt_claims, receipt_files, receipt_tables;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
