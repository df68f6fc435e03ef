-- Who did what to which tenant, written in the same transaction as what it tells. No foreign key: an
-- event outlives what it tells of.
CREATE TABLE audit_events (
    id uuid NOT NULL CONSTRAINT audit_events_pkey PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    tenant_id uuid,
    request_id text NOT NULL,
    details jsonb NOT NULL
);

CREATE INDEX audit_events_at_idx ON audit_events (at, id);
CREATE INDEX audit_events_tenant_id_idx ON audit_events (tenant_id, at);
