-- A deleted tenant is kept for a grace period and then purged.
-- When its grace period ends.
ALTER TABLE tenants ADD COLUMN purge_after timestamptz;
-- What it is restored to.
ALTER TABLE tenants ADD COLUMN restore_to text;
ALTER TABLE tenants ADD CONSTRAINT tenants_restore_to_check CHECK (restore_to IN ('active', 'suspended'));
-- When its purge began. A purge takes several transactions; from the first on nothing brings the tenant back.
ALTER TABLE tenants ADD COLUMN purge_started_at timestamptz;

-- Which purges are due.
CREATE INDEX tenants_purge_after_idx ON tenants (purge_after) WHERE status = 'deleting';
