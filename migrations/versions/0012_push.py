"""Systems that are sent to, the outbox, and FHIR Subscriptions.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE push_destinations (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    state TEXT DEFAULT 'active' NOT NULL,
    events TEXT[] NOT NULL,
    mode TEXT DEFAULT 'conditional' NOT NULL,
    provenance BOOLEAN DEFAULT true NOT NULL,
    login TEXT DEFAULT 'none' NOT NULL,
    login_name TEXT,
    secret_file TEXT,
    key_id TEXT,
    token_url TEXT,
    scope TEXT,
    ca_file TEXT,
    cert_file TEXT,
    key_file TEXT,
    secret TEXT,
    http BOOLEAN DEFAULT false NOT NULL,
    hold_until TIMESTAMP WITH TIME ZONE,
    failures BIGINT DEFAULT 0 NOT NULL,
    failing_since TIMESTAMP WITH TIME ZONE,
    problem TEXT,
    sent BIGINT DEFAULT 0 NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_by TEXT NOT NULL,
    CONSTRAINT pk_push_destinations PRIMARY KEY (id),
    CONSTRAINT uq_push_destinations_name UNIQUE (name),
    CONSTRAINT ck_push_destinations_kind CHECK (kind IN ('fhir', 'webhook', 'subscription')),
    CONSTRAINT ck_push_destinations_state CHECK (state IN ('active', 'paused', 'requested', 'error', 'off')),
    CONSTRAINT ck_push_destinations_mode CHECK (mode IN ('conditional', 'update')),
    CONSTRAINT ck_push_destinations_login CHECK (login IN ('none', 'bearer', 'basic', 'smart')),
    CONSTRAINT ck_push_destinations_name CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    CONSTRAINT ck_push_destinations_subscription_state CHECK (kind = 'subscription' OR state IN ('active', 'paused')),
    CONSTRAINT ck_push_destinations_webhook_secret CHECK (kind <> 'webhook' OR secret IS NOT NULL),
    CONSTRAINT ck_push_destinations_created_by CHECK (created_by <> '')
);

CREATE TABLE deliveries (
    id UUID NOT NULL,
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    destination_id UUID NOT NULL,
    event TEXT NOT NULL,
    subject UUID NOT NULL,
    note_id UUID,
    state TEXT DEFAULT 'waiting' NOT NULL,
    attempts BIGINT DEFAULT 0 NOT NULL,
    fence BIGINT DEFAULT 0 NOT NULL,
    queued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    run_after TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    status BIGINT,
    reason TEXT,
    outcome JSONB,
    sha256 TEXT,
    CONSTRAINT pk_deliveries PRIMARY KEY (id),
    CONSTRAINT fk_deliveries_destination_id FOREIGN KEY (destination_id)
        REFERENCES push_destinations (id) ON DELETE CASCADE,
    CONSTRAINT fk_deliveries_note_id FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE,
    CONSTRAINT uq_deliveries_destination_id_event_subject UNIQUE (destination_id, event, subject),
    CONSTRAINT ck_deliveries_event CHECK (event IN ('note.converted', 'resource.released', 'handshake')),
    CONSTRAINT ck_deliveries_state CHECK (state IN ('waiting', 'sent', 'skipped', 'dead')),
    CONSTRAINT ck_deliveries_ended CHECK ((state = 'waiting') = (ended_at IS NULL)),
    CONSTRAINT ck_deliveries_not_negative CHECK (attempts >= 0 AND fence >= 0)
);
CREATE INDEX ix_deliveries_note_id ON deliveries (note_id);
CREATE INDEX ix_deliveries_waiting ON deliveries (destination_id, position) WHERE state = 'waiting';
CREATE INDEX ix_deliveries_waiting_note ON deliveries (destination_id, note_id, position) WHERE state = 'waiting';
CREATE INDEX ix_deliveries_dead ON deliveries (destination_id, position) WHERE state = 'dead';

CREATE TABLE subscriptions (
    id UUID NOT NULL,
    version BIGINT DEFAULT 1 NOT NULL,
    criteria TEXT NOT NULL,
    type TEXT NOT NULL,
    payload BOOLEAN NOT NULL,
    content JSONB NOT NULL,
    owner_id TEXT NOT NULL,
    owner JSONB NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_subscriptions PRIMARY KEY (id),
    CONSTRAINT fk_subscriptions_id FOREIGN KEY (id) REFERENCES push_destinations (id) ON DELETE CASCADE,
    CONSTRAINT ck_subscriptions_version CHECK (version >= 1)
);
CREATE INDEX ix_subscriptions_owner_id ON subscriptions (owner_id);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE subscriptions, deliveries, push_destinations")
