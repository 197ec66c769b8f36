"""Resources that clients write and delete, and the tables that searches look in.

Stored resources are not indexed here, which would take long on a live database: they are marked, and a worker indexes them
(`app.store.index`). The new checks of `resources` are not validated: the former ones were stricter, and the scan would lock.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE resources
    ALTER COLUMN note_id DROP NOT NULL,
    ALTER COLUMN job_id DROP NOT NULL,
    ALTER COLUMN run_id DROP NOT NULL,
    ALTER COLUMN content DROP NOT NULL,
    ADD COLUMN method TEXT DEFAULT 'POST' NOT NULL,
    ADD COLUMN written_by TEXT,
    ADD COLUMN released_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN indexed BOOLEAN DEFAULT false NOT NULL,
    DROP CONSTRAINT ck_resources_content,
    ADD CONSTRAINT ck_resources_content CHECK (
        CASE WHEN method = 'DELETE' THEN content IS NULL
        ELSE content IS NOT NULL AND content ->> 'resourceType' IS NOT DISTINCT FROM type
            AND content ->> 'id' IS NOT DISTINCT FROM id END) NOT VALID,
    ADD CONSTRAINT ck_resources_method CHECK (method IN ('POST', 'PUT', 'DELETE')) NOT VALID,
    ADD CONSTRAINT ck_resources_origin CHECK (
        num_nulls(note_id, job_id, run_id) = 0 AND method <> 'DELETE'
        OR num_nulls(note_id, job_id, run_id) = 3 AND written_by IS NOT NULL AND state = 'final') NOT VALID;
CREATE INDEX ix_resources_unindexed ON resources (type, id) WHERE NOT indexed;
CREATE INDEX ix_resources_last_updated ON resources (COALESCE(released_at, created_at), type, id);

CREATE TABLE search_entries (
    key BIGINT GENERATED ALWAYS AS IDENTITY,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    last_updated TIMESTAMP WITH TIME ZONE NOT NULL,
    released BOOLEAN NOT NULL,
    newest BOOLEAN NOT NULL,
    patient TEXT,
    dated_from TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    dated_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_search_entries PRIMARY KEY (key),
    CONSTRAINT uq_search_entries_type_id_version UNIQUE (type, id, version),
    CONSTRAINT fk_search_entries_type_id_version FOREIGN KEY (type, id, version)
        REFERENCES resources (type, id, version) ON DELETE CASCADE
);
CREATE INDEX ix_search_entries_patient_type_dated_from ON search_entries (patient, type, dated_from)
    WHERE patient IS NOT NULL;
CREATE INDEX ix_search_entries_type_dated_from_id ON search_entries (type, dated_from, id);
CREATE INDEX ix_search_entries_type_last_updated_id ON search_entries (type, last_updated, id);

CREATE TABLE search_tokens (
    entry BIGINT NOT NULL,
    param INTEGER NOT NULL,
    system TEXT,
    code TEXT,
    dated_from TIMESTAMP WITH TIME ZONE NOT NULL,
    dated_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT fk_search_tokens_entry FOREIGN KEY (entry) REFERENCES search_entries (key) ON DELETE CASCADE
);
CREATE INDEX ix_search_tokens_entry_param ON search_tokens (entry, param);
CREATE INDEX ix_search_tokens_param_code_dated_from ON search_tokens (param, code, dated_from)
    INCLUDE (entry, system, dated_until);
-- How many entries have a code depends on the parameter: without these a plan takes every code for a rare one.
ALTER TABLE search_tokens ALTER COLUMN code SET STATISTICS 1000;
CREATE STATISTICS search_tokens_code (mcv) ON param, code FROM search_tokens;
ALTER STATISTICS search_tokens_code SET STATISTICS 1000;

CREATE TABLE search_dates (
    entry BIGINT NOT NULL,
    param INTEGER NOT NULL,
    starts TIMESTAMP WITH TIME ZONE NOT NULL,
    ends TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT fk_search_dates_entry FOREIGN KEY (entry) REFERENCES search_entries (key) ON DELETE CASCADE
);
CREATE INDEX ix_search_dates_entry_param ON search_dates (entry, param);
CREATE INDEX ix_search_dates_param_starts_entry ON search_dates (param, starts, entry);

CREATE TABLE search_references (
    entry BIGINT NOT NULL,
    param INTEGER NOT NULL,
    target_type TEXT,
    target_id TEXT,
    url TEXT,
    CONSTRAINT fk_search_references_entry FOREIGN KEY (entry) REFERENCES search_entries (key) ON DELETE CASCADE
);
CREATE INDEX ix_search_references_entry_param ON search_references (entry, param);
CREATE INDEX ix_search_references_target_id_param_entry ON search_references (target_id, param, entry);
CREATE INDEX ix_search_references_url ON search_references (url) WHERE url IS NOT NULL;

CREATE TABLE search_strings (
    entry BIGINT NOT NULL,
    param INTEGER NOT NULL,
    folded TEXT NOT NULL,
    exact TEXT NOT NULL,
    CONSTRAINT fk_search_strings_entry FOREIGN KEY (entry) REFERENCES search_entries (key) ON DELETE CASCADE
);
CREATE INDEX ix_search_strings_entry_param ON search_strings (entry, param);
CREATE INDEX ix_search_strings_param_folded_entry ON search_strings (param, folded text_pattern_ops, entry);

CREATE TABLE search_quantities (
    entry BIGINT NOT NULL,
    param INTEGER NOT NULL,
    low NUMERIC NOT NULL,
    high NUMERIC NOT NULL,
    system TEXT,
    code TEXT,
    unit TEXT,
    CONSTRAINT fk_search_quantities_entry FOREIGN KEY (entry) REFERENCES search_entries (key) ON DELETE CASCADE
);
CREATE INDEX ix_search_quantities_entry_param ON search_quantities (entry, param);
CREATE INDEX ix_search_quantities_param_low_entry ON search_quantities (param, low, entry);
"""

DOWN = """
DROP TABLE search_tokens, search_dates, search_references, search_strings, search_quantities, search_entries;
-- What the former version has no place for: resources of clients, and that they were deleted.
DELETE FROM resources WHERE note_id IS NULL;
DROP INDEX ix_resources_unindexed, ix_resources_last_updated;
ALTER TABLE resources
    DROP CONSTRAINT ck_resources_origin,
    DROP CONSTRAINT ck_resources_method,
    DROP CONSTRAINT ck_resources_content,
    ADD CONSTRAINT ck_resources_content
        CHECK (content ->> 'resourceType' IS NOT DISTINCT FROM type AND content ->> 'id' IS NOT DISTINCT FROM id),
    DROP COLUMN indexed,
    DROP COLUMN released_at,
    DROP COLUMN written_by,
    DROP COLUMN method,
    ALTER COLUMN content SET NOT NULL,
    ALTER COLUMN run_id SET NOT NULL,
    ALTER COLUMN job_id SET NOT NULL,
    ALTER COLUMN note_id SET NOT NULL;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
