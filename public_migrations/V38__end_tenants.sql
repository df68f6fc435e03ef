-- Preview environments and test runs end by themselves: at this time the tenant is deleted and purged. NULL: it stays.
ALTER TABLE tenants ADD COLUMN expires_at timestamptz;

-- Which have ended.
CREATE INDEX tenants_expires_at_idx ON tenants (expires_at) WHERE expires_at IS NOT NULL;
