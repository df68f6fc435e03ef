-- API tokens. The token itself is shown once and is not here.
CREATE TABLE tokens (
    id uuid NOT NULL CONSTRAINT tokens_pkey PRIMARY KEY,
    -- SHA-256 of the token; the token is random (256 bits, or a UUID's 122), so a slow hash would add nothing.
    digest bytea NOT NULL CONSTRAINT tokens_digest_key UNIQUE,
    -- Its first characters, so that a person can tell which is which.
    hint text NOT NULL,
    name text NOT NULL,
    -- Names of permissions; '*' stands for all, those of later versions included.
    permissions text[] NOT NULL,
    -- The one tenant that it works in, where it is bound to one.
    tenant_id uuid,
    -- The one profile in that tenant that it may read, where it is a person's own.
    profile_id uuid,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    -- Kept to the minute: a write for each use would cost more than it tells.
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT tokens_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE INDEX tokens_tenant_id_idx ON tokens (tenant_id);
