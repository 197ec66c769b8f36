"""What JP-CLINS needs to know of a note; checked resources; releases of code masters; local codes; Bundles handed out.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE notes
    ADD COLUMN patient_address TEXT,
    ADD COLUMN patient_insurance_id TEXT,
    ADD COLUMN encounter JSONB,
    ADD COLUMN physician JSONB,
    ADD COLUMN recipient JSONB;

ALTER TABLE runs ADD COLUMN profiles TEXT;

ALTER TABLE statements ADD COLUMN candidates JSONB DEFAULT '[]'::jsonb NOT NULL;

ALTER TABLE resources
    ADD COLUMN valid BOOLEAN DEFAULT true NOT NULL,
    ADD CONSTRAINT ck_resources_valid CHECK (valid OR state = 'draft');

ALTER TABLE code_system_releases
    ADD COLUMN kind TEXT DEFAULT 'starter' NOT NULL,
    ADD COLUMN active BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN concepts BIGINT DEFAULT 0 NOT NULL,
    ADD CONSTRAINT ck_code_system_releases_active CHECK (state = 'ready' OR NOT active);
UPDATE code_system_releases SET active = (state = 'ready'),
    concepts = (SELECT count(*) FROM concepts WHERE release_id = code_system_releases.id);
CREATE UNIQUE INDEX uq_code_system_releases_active ON code_system_releases (system) WHERE active;

CREATE FUNCTION name_fold(search_text TEXT, kana TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN translate(
    search_text || ' ' || normalize(coalesce(kana, ''), NFKC),
    'ァアィイゥウェエォオカガキギクグケゲコゴサザシジスズセゼソゾタダチヂッツヅテデトドナニヌネノハバパヒビピフブプヘベペホボポマミムメモャヤュユョヨラリルレロヮワヰヱヲンヴ',
    'ぁあぃいぅうぇえぉおかがきぎくぐけげこごさざしじすずせぜそぞただちぢっつづてでとどなにぬねのはばぱひびぴふぶぷへべぺほぼぽまみむめもゃやゅゆょよらりるれろゎわゐゑをんゔ'
);
CREATE FUNCTION name_grams(folded TEXT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT array_agg(DISTINCT a || b)
    FROM ROWS FROM (unnest(string_to_array(' ' || folded, NULL)), unnest(string_to_array(folded, NULL))) AS pair (a, b)
    WHERE b <> ' '
);
ALTER TABLE concepts ADD COLUMN folded TEXT GENERATED ALWAYS AS (name_fold(search_text, kana)) STORED NOT NULL;
CREATE INDEX ix_concepts_name_grams ON concepts USING gin (name_grams(folded)) WITH (gin_pending_list_limit = 256);
CREATE INDEX ix_concepts_codings ON concepts USING gin ((properties -> 'codings') jsonb_path_ops)
    WITH (fastupdate = off);
DROP INDEX ix_concepts_release_id_code;
CREATE INDEX ix_concepts_release_id_code ON concepts (release_id, code text_pattern_ops);
-- Nothing reads them any more, and a B-tree refuses a concept whose names are longer than 2,704 bytes together.
DROP INDEX ix_concepts_release_id_search_text, ix_concepts_search_text_trgm;

CREATE TABLE local_codes (
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    code TEXT NOT NULL,
    display TEXT NOT NULL,
    target_system TEXT,
    target_code TEXT,
    target_display TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    retired_at TIMESTAMP WITH TIME ZONE,
    retired_by TEXT,
    CONSTRAINT pk_local_codes PRIMARY KEY (id),
    CONSTRAINT ck_local_codes_kind CHECK (kind IN ('condition', 'allergy', 'infection', 'lab', 'prescription')),
    CONSTRAINT ck_local_codes_not_empty CHECK (code <> '' AND display <> '' AND created_by <> ''),
    CONSTRAINT ck_local_codes_retired CHECK ((retired_at IS NULL) = (retired_by IS NULL)),
    CONSTRAINT ck_local_codes_target
        CHECK ((target_system IS NULL) = (target_code IS NULL) AND (target_code IS NULL) = (target_display IS NULL))
);
CREATE UNIQUE INDEX uq_local_codes_current ON local_codes (kind, code) WHERE retired_at IS NULL;
CREATE INDEX ix_local_codes_target_system_target_code ON local_codes (target_system, target_code);

CREATE TABLE clins_bundles (
    id UUID NOT NULL,
    source TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    type TEXT NOT NULL,
    insurance_id TEXT NOT NULL,
    identifier_system TEXT NOT NULL,
    identifier_value TEXT NOT NULL,
    version BIGINT NOT NULL,
    drafts BOOLEAN NOT NULL,
    content JSONB NOT NULL,
    content_sha256 TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_clins_bundles PRIMARY KEY (id),
    CONSTRAINT uq_clins_bundles_key UNIQUE (insurance_id, identifier_system, identifier_value, version),
    CONSTRAINT ck_clins_bundles_version CHECK (version >= 1),
    CONSTRAINT ck_clins_bundles_type CHECK (type IN ('Condition', 'AllergyIntolerance', 'Observation'))
);
CREATE INDEX ix_clins_bundles_source_patient_id_type ON clins_bundles (source, patient_id, type);
"""

DOWN = """
DROP TABLE clins_bundles, local_codes;
-- Revision 0002 knows one release, of the starter tables, and its B-tree cannot hold every concept of other tables. An index
-- takes in rows that its own transaction deleted, so what stays is written anew.
CREATE TEMPORARY TABLE kept ON COMMIT DROP AS
    SELECT c.id, release_id, code, display, kana, properties, search_text
    FROM concepts c JOIN code_system_releases r ON r.id = c.release_id WHERE r.kind = 'starter' AND r.active;
TRUNCATE concepts;
DELETE FROM code_system_releases WHERE kind <> 'starter' OR NOT active;
DROP INDEX ix_concepts_name_grams, ix_concepts_codings, ix_concepts_release_id_code;
CREATE INDEX ix_concepts_release_id_code ON concepts (release_id, code);
ALTER TABLE concepts DROP COLUMN folded;
INSERT INTO concepts (id, release_id, code, display, kana, properties, search_text) SELECT * FROM kept ORDER BY id;
CREATE INDEX ix_concepts_release_id_search_text ON concepts (release_id, search_text);
CREATE INDEX ix_concepts_search_text_trgm ON concepts USING gin (search_text gin_trgm_ops);
DROP FUNCTION name_grams(TEXT);
DROP FUNCTION name_fold(TEXT, TEXT);
DROP INDEX uq_code_system_releases_active;
ALTER TABLE code_system_releases
    DROP CONSTRAINT ck_code_system_releases_active, DROP COLUMN kind, DROP COLUMN active, DROP COLUMN concepts;
ALTER TABLE resources DROP CONSTRAINT ck_resources_valid, DROP COLUMN valid;
ALTER TABLE statements DROP COLUMN candidates;
ALTER TABLE runs DROP COLUMN profiles;
ALTER TABLE notes
    DROP COLUMN patient_address, DROP COLUMN patient_insurance_id, DROP COLUMN encounter, DROP COLUMN physician,
    DROP COLUMN recipient;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
