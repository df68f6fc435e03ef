-- An operation may place the schemas of tenants on the nodes of a cluster, instead of migrating them.
ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check CHECK (kind IN ('migrate', 'distribute'));
