-- works with: V40
-- Imports of stored archives that run in the background. One is done in the transaction that makes its tenant.
CREATE TABLE imports (
    id uuid NOT NULL CONSTRAINT imports_pkey PRIMARY KEY,
    archive_id uuid NOT NULL,
    state text NOT NULL
        CONSTRAINT imports_state_check CHECK (state IN ('running', 'done', 'failed', 'cancelled')),
    slug text NOT NULL,
    -- Whether everything is rolled back at the end.
    dry_run boolean NOT NULL,
    actor text NOT NULL,
    request_id text NOT NULL,
    -- A running one whose lease has ended belongs to a server that is gone.
    lease_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    table_count bigint,
    tables_done bigint NOT NULL DEFAULT 0,
    row_count bigint NOT NULL DEFAULT 0,
    -- Of CSV.
    raw_bytes bigint NOT NULL DEFAULT 0,
    -- What was imported, or would be.
    report jsonb,
    -- Why it failed.
    error_code text,
    error text
);
CREATE INDEX imports_created_idx ON imports (created_at, id);
