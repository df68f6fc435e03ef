-- Audit events are sealed in the order of their commits. The number that orders them comes from the database while the
-- writer holds the locks of its change, so that of two changes of one tenant the later one has the higher number,
-- whatever the clocks of the servers and however slowly a request arrived. A sequence never goes back; a clock may.
CREATE SEQUENCE audit_event_numbers;
-- Null for an event from before. Servers of an earlier version do not name the column, and get the number as well.
ALTER TABLE audit_events ADD COLUMN write_order bigint;
ALTER TABLE audit_events ALTER COLUMN write_order SET DEFAULT nextval('audit_event_numbers');

-- What is still to be sealed, in that order.
DROP INDEX audit_events_unsealed_idx;
CREATE INDEX audit_events_unsealed_idx ON audit_events (write_order NULLS FIRST, at, id) WHERE position IS NULL;

-- The sealed events of one tenant, in the order of the chain.
CREATE INDEX audit_events_tenant_position_idx ON audit_events (tenant_id, position) WHERE position IS NOT NULL;
