"""What a run's output depends on and its fingerprint, the releases behind a version of the terminology, and trials.

A job of a trial belongs to no note's results: its `note_id` is null, and `trial_note_id` names the note.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# NOT VALID: every row there is fulfils the constraints, and a look at each would hold everybody up meanwhile.
UP = """
ALTER TABLE runs ADD COLUMN options JSONB, ADD COLUMN output_sha256 TEXT,
    ADD CONSTRAINT ck_runs_output_sha256 CHECK (output_sha256 ~ '^[0-9a-f]{64}$') NOT VALID;

CREATE TABLE terminology_versions (
    version TEXT NOT NULL,
    releases JSONB NOT NULL,
    local_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_terminology_versions PRIMARY KEY (version)
);

CREATE TABLE trials (
    id UUID NOT NULL,
    chosen TEXT NOT NULL,
    notes BIGINT DEFAULT 0 NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    discarded_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_trials PRIMARY KEY (id),
    CONSTRAINT ck_trials_not_empty CHECK (chosen <> '' AND created_by <> '')
);

ALTER TABLE jobs ALTER COLUMN note_id DROP NOT NULL, ADD COLUMN trial_id UUID, ADD COLUMN trial_note_id UUID,
    ADD CONSTRAINT ck_jobs_one_note CHECK (num_nonnulls(note_id, trial_note_id) = 1) NOT VALID,
    ADD CONSTRAINT ck_jobs_trial CHECK (trial_note_id IS NULL OR trial_id IS NOT NULL) NOT VALID,
    ADD CONSTRAINT fk_jobs_trial_note_id FOREIGN KEY (trial_note_id) REFERENCES notes (id) ON DELETE CASCADE NOT VALID;
CREATE INDEX ix_jobs_trial_note_id ON jobs (trial_note_id) WHERE trial_note_id IS NOT NULL;
CREATE INDEX ix_jobs_trial_id ON jobs (trial_id, state) WHERE trial_id IS NOT NULL;

CREATE TABLE trial_notes (
    job_id UUID NOT NULL,
    trial_id UUID NOT NULL,
    note_id UUID NOT NULL,
    former_run_id UUID NOT NULL,
    kept JSONB,
    output_sha256 TEXT,
    differences JSONB,
    counts JSONB,
    kept_at TIMESTAMP WITH TIME ZONE,
    applied_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_trial_notes PRIMARY KEY (job_id),
    CONSTRAINT fk_trial_notes_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_trial_notes_trial_id FOREIGN KEY (trial_id) REFERENCES trials (id) ON DELETE CASCADE,
    CONSTRAINT fk_trial_notes_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT ck_trial_notes_output_sha256 CHECK (output_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_trial_notes_whole CHECK (num_nulls(output_sha256, differences, counts, kept_at) IN (0, 4)),
    CONSTRAINT ck_trial_notes_kept CHECK (kept IS NULL OR kept_at IS NOT NULL)
);
CREATE INDEX ix_trial_notes_note_id ON trial_notes (note_id);
CREATE UNIQUE INDEX ix_trial_notes_trial_id_note_id ON trial_notes (trial_id, note_id);
"""

# What was tried and not applied goes; it never was a result.
DOWN = """
DROP TABLE trial_notes, trials, terminology_versions;
DELETE FROM jobs WHERE note_id IS NULL;
DROP INDEX ix_jobs_trial_note_id, ix_jobs_trial_id;
ALTER TABLE jobs DROP CONSTRAINT ck_jobs_one_note, DROP CONSTRAINT ck_jobs_trial, DROP CONSTRAINT fk_jobs_trial_note_id,
    DROP COLUMN trial_id, DROP COLUMN trial_note_id, ALTER COLUMN note_id SET NOT NULL;
ALTER TABLE runs DROP COLUMN options, DROP COLUMN output_sha256;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
