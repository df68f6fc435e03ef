CREATE SEQUENCE tenant_numbers START 2;

-- One row a tenant. The schema is named by the id, so that a rename touches this row and nothing else.
CREATE TABLE tenants (
    id uuid NOT NULL CONSTRAINT tenants_pkey PRIMARY KEY,
    -- What Databunker's clients call tenantid. The main tenant is 1; a number is never given twice.
    number bigint NOT NULL DEFAULT nextval('tenant_numbers') CONSTRAINT tenants_number_key UNIQUE,
    slug text NOT NULL CONSTRAINT tenants_slug_key UNIQUE,
    name text NOT NULL,
    -- The organisation behind the tenant and how to reach it, where a dialect asks for them.
    org text,
    contact_email text,
    status text NOT NULL CONSTRAINT tenants_status_check
        CHECK (status IN ('active', 'suspended', 'deleting')),
    -- Which database holds the schema, so that a second one can be added.
    cluster text NOT NULL,
    -- What the schema was last migrated to: the highest version, and a digest of the whole set. The
    -- history table in the schema is the truth, this is how one query finds who is behind.
    migrations_version integer NOT NULL,
    migrations_fingerprint text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Lists are in order of creation, the id breaking ties.
CREATE INDEX tenants_created_at_idx ON tenants (created_at, id);
-- Who is behind the current set.
CREATE INDEX tenants_migrations_fingerprint_idx ON tenants (migrations_fingerprint);
