-- What was answered to a request that carried an Idempotency-Key, written in the transaction that did
-- the work: the record is there if and only if the work is.
CREATE TABLE idempotency_keys (
    -- Who asked: one caller's keys never meet another's.
    principal text NOT NULL,
    key text NOT NULL,
    -- SHA-256 of the request without its password.
    request_digest bytea NOT NULL,
    -- The password by its argon2id hash: a fast digest of it must not be kept.
    secret_hash text,
    outcome jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (principal, key)
);

CREATE INDEX idempotency_keys_expires_at_idx ON idempotency_keys (expires_at);
