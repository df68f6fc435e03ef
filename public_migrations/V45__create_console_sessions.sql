-- works with: V40
-- Sessions of the console. Each stands for another credential and ends with it: a session of a user, an API token, or a
-- root token.
CREATE TABLE console_sessions (
    -- SHA-256 of the secret in the cookie.
    digest bytea NOT NULL CONSTRAINT console_sessions_pkey PRIMARY KEY,
    kind text NOT NULL CONSTRAINT console_sessions_kind_check CHECK (kind IN ('user', 'token', 'root')),
    session_id uuid CONSTRAINT console_sessions_session_id_fkey REFERENCES sessions (id) ON DELETE CASCADE,
    -- SHA-256 of the API token or of the root token.
    credential_digest bytea,
    created_at timestamptz NOT NULL,
    -- To the minute.
    last_used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- The last form that can be sent only once.
    last_form uuid,
    CONSTRAINT console_sessions_credential_check
        CHECK ((kind = 'user') = (session_id IS NOT NULL) AND (kind = 'user') = (credential_digest IS NULL))
);
CREATE INDEX console_sessions_session_id_idx ON console_sessions (session_id);
CREATE INDEX console_sessions_expires_at_idx ON console_sessions (expires_at);
