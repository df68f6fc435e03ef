-- Makes a changed or removed audit event show: each event is sealed with a hash of itself and of the seal
-- before it. Events are sealed some time after they are written, so that writers do not wait for each other.
-- Where it stands in the chain, from 1 without a gap; null until it is sealed.
ALTER TABLE audit_events ADD COLUMN position bigint;
ALTER TABLE audit_events ADD CONSTRAINT audit_events_position_key UNIQUE (position);
-- SHA-256.
ALTER TABLE audit_events ADD COLUMN seal bytea;

-- What is still to be sealed.
CREATE INDEX audit_events_unsealed_idx ON audit_events (at, id) WHERE position IS NULL;

-- The end of the chain, so that events missing from the end show too.
CREATE TABLE audit_heads (
    -- There is one chain.
    chain text NOT NULL CONSTRAINT audit_heads_pkey PRIMARY KEY,
    position bigint NOT NULL,
    seal bytea NOT NULL
);
