-- The keys that sign access tokens, shared by all processes on this database. The newest signs, all
-- verify. Only the owner can read them: the runtime login may not look into this schema.
CREATE TABLE signing_keys (
    kid text NOT NULL CONSTRAINT signing_keys_pkey PRIMARY KEY,
    -- Ed25519, PKCS#8.
    private_key bytea NOT NULL,
    created_at timestamptz NOT NULL
);
