-- What the control API keeps of a tenant beside what every dialect knows.
-- What its maker's own system calls it, so that a pipeline finds again what it made.
ALTER TABLE tenants ADD COLUMN external_id text;
ALTER TABLE tenants ADD CONSTRAINT tenants_external_id_key UNIQUE (external_id);
-- The application's own; kept as written, hence json and not jsonb.
ALTER TABLE tenants ADD COLUMN settings json NOT NULL DEFAULT '{}';
-- Goes up with every change, so that a change can name the state that it was decided on.
ALTER TABLE tenants ADD COLUMN revision bigint NOT NULL DEFAULT 1;
