-- works with: V40
-- The archives that servers keep: exports that run in the background, and uploads. The content is in the store
-- (archives.store) under the id. A row outlives its tenant.
CREATE TABLE archives (
    id uuid NOT NULL CONSTRAINT archives_pkey PRIMARY KEY,
    kind text NOT NULL CONSTRAINT archives_kind_check CHECK (kind IN ('export', 'upload')),
    state text NOT NULL
        CONSTRAINT archives_state_check CHECK (state IN ('running', 'ready', 'failed', 'cancelled', 'deleted')),
    -- The tenant whose data it has. Of an upload it may be one of another installation, and is unknown at first.
    tenant_id uuid,
    slug text,
    actor text NOT NULL,
    request_id text NOT NULL,
    -- A running one whose lease has ended belongs to a server that is gone.
    lease_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    -- When it is deleted.
    keep_until timestamptz,
    table_count bigint,
    tables_done bigint NOT NULL DEFAULT 0,
    row_count bigint NOT NULL DEFAULT 0,
    -- Of CSV, before it is packed.
    raw_bytes bigint NOT NULL DEFAULT 0,
    -- Of the archive.
    bytes bigint,
    -- In hex.
    sha256 text,
    manifest_sha256 text,
    -- What the archive lacks, in sentences.
    warnings text[] NOT NULL DEFAULT '{}',
    -- Whether a key of this installation signed it.
    is_trusted boolean,
    -- The last check of the stored content.
    check_state text
        CONSTRAINT archives_check_state_check CHECK (check_state IN ('running', 'passed', 'failed')),
    check_lease_until timestamptz,
    checked_at timestamptz,
    check_error text,
    -- Why it failed.
    error_code text,
    error text,
    CONSTRAINT archives_export_check CHECK (kind <> 'export' OR (tenant_id IS NOT NULL AND slug IS NOT NULL))
);
CREATE UNIQUE INDEX archives_exporting_key ON archives (tenant_id) WHERE kind = 'export' AND state = 'running';
CREATE INDEX archives_created_idx ON archives (created_at, id);
CREATE INDEX archives_tenant_idx ON archives (tenant_id, created_at, id);
