-- The locks of the control plane: whoever has locked a row here (SELECT .. FOR UPDATE) has the lock until their
-- transaction ends. They were advisory locks, which any role can take that may run a query; a row can be locked only
-- by a role with rights on this table, and a tenant's role may not even look into this schema.
CREATE TABLE locks (
    -- What is locked: 'audit chain', 'signing keys', 'vacancies', or the schema of a tenant or a vacancy. A row that is
    -- missing is inserted when its lock is first taken; that of a schema goes with the schema.
    name text COLLATE "C" NOT NULL CONSTRAINT locks_pkey PRIMARY KEY
);
INSERT INTO locks (name) VALUES ('audit chain'), ('signing keys'), ('vacancies');
INSERT INTO locks (name)
SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants
 UNION
SELECT 'tenant_' || replace(id::text, '-', '') FROM vacancies;
