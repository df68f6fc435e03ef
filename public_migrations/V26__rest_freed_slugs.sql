-- Who has a slug, or had it last. A slug that a rename or a purge frees rests: for a while no other tenant can take it,
-- because links, bookmarks and scripts still lead to the tenant that had it. A new tenant claims its slug here, in the
-- transaction that makes it: that locks the row, so a claim and a rename at the same moment see each other.
CREATE TABLE slugs (
    slug text NOT NULL CONSTRAINT slugs_pkey PRIMARY KEY,
    -- No foreign key: the row outlives a tenant that is purged.
    tenant_id uuid NOT NULL,
    -- When the tenant gave it up; null while the tenant has it.
    freed_at timestamptz
);

INSERT INTO slugs (slug, tenant_id) SELECT slug, id FROM tenants;
