-- The short-lived second keys of bulk and cross-tenant calls, bound to whoever took them.
CREATE TABLE unlocks (
    -- SHA-256 of the unlock UUID.
    digest bytea NOT NULL CONSTRAINT unlocks_pkey PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX unlocks_expires_at_idx ON unlocks (expires_at);
