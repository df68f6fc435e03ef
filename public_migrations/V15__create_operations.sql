-- The ledger of work on the whole fleet, which any process can read and take up, and what is known of the
-- sets of migrations that tenants were made by.
CREATE TABLE operations (
    id uuid NOT NULL CONSTRAINT operations_pkey PRIMARY KEY,
    kind text NOT NULL,
    state text NOT NULL,
    -- Why it pauses, where it does.
    pause_reason text,
    -- Who asked for it.
    actor text NOT NULL,
    request_id text NOT NULL,
    -- What it migrates to. A program with another set does not take it up.
    target_version integer NOT NULL,
    target_fingerprint text NOT NULL,
    -- What was asked for: workers, max_failures, then (what follows the canary).
    options jsonb NOT NULL,
    -- Whether the canary is still to be waited for.
    canary_open boolean NOT NULL,
    -- The lock: whoever runs it, and until when that holds unless it is heard of again.
    runner uuid,
    runner_host text,
    runner_pid integer,
    runner_since timestamptz,
    lease_until timestamptz,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz NOT NULL
);
ALTER TABLE operations ADD CONSTRAINT operations_kind_check CHECK (kind IN ('migrate'));
ALTER TABLE operations ADD CONSTRAINT operations_state_check
    CHECK (state IN ('planned', 'running', 'paused', 'done', 'failed', 'cancelled'));
ALTER TABLE operations ADD CONSTRAINT operations_pause_reason_check
    CHECK (pause_reason IN ('asked', 'canary', 'canary_failed', 'max_failures'));

-- One at a time.
CREATE UNIQUE INDEX operations_open_key ON operations (kind) WHERE state IN ('planned', 'running', 'paused');
CREATE INDEX operations_created_at_idx ON operations (created_at, id);

-- One row a tenant of an operation. No foreign key to the tenant: the row outlives it, and tells its slug.
CREATE TABLE operation_tenants (
    operation_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    slug text NOT NULL,
    -- Its place in the operation, from 1.
    position bigint NOT NULL,
    is_canary boolean NOT NULL,
    state text NOT NULL,
    -- How often it was begun.
    attempts integer NOT NULL,
    -- Which runner has it.
    runner uuid,
    -- What was applied, or what went wrong.
    applied text[],
    error text,
    started_at timestamptz,
    ended_at timestamptz
);
ALTER TABLE operation_tenants ADD CONSTRAINT operation_tenants_pkey PRIMARY KEY (operation_id, tenant_id);
ALTER TABLE operation_tenants ADD CONSTRAINT operation_tenants_operation_id_fkey
    FOREIGN KEY (operation_id) REFERENCES operations (id) ON DELETE CASCADE;
ALTER TABLE operation_tenants ADD CONSTRAINT operation_tenants_state_check
    CHECK (state IN ('pending', 'running', 'done', 'failed', 'skipped'));

-- What is next. Rows leave it as they are claimed.
CREATE INDEX operation_tenants_pending_idx ON operation_tenants (operation_id, position) WHERE state = 'pending';

-- The files of each set that tenants were migrated to, so that one query tells who is behind by what, and
-- who was made by a file that has since been changed. The history table in each schema stays the truth.
CREATE TABLE migration_sets (
    fingerprint text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    recorded_at timestamptz NOT NULL
);
ALTER TABLE migration_sets ADD CONSTRAINT migration_sets_pkey PRIMARY KEY (fingerprint, version);

-- How far a file that runs outside of a transaction has come in one tenant: one row a statement.
CREATE TABLE migration_statements (
    tenant_id uuid NOT NULL,
    version integer NOT NULL,
    -- Its place in the file, from 1.
    position integer NOT NULL,
    is_done boolean NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz
);
ALTER TABLE migration_statements ADD CONSTRAINT migration_statements_pkey
    PRIMARY KEY (tenant_id, version, position);
ALTER TABLE migration_statements ADD CONSTRAINT migration_statements_tenant_id_fkey
    FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE;
