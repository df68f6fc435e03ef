-- What a tenant stores about a person. The document comes back exactly as it was given, which is why it
-- is json and not jsonb; the four keys that a person is found by stand beside it, each unique within the
-- tenant.
CREATE TABLE profiles (
    id uuid NOT NULL CONSTRAINT profiles_pkey PRIMARY KEY,
    profile json NOT NULL,
    email text CONSTRAINT profiles_email_key UNIQUE,
    login text CONSTRAINT profiles_login_key UNIQUE,
    phone text CONSTRAINT profiles_phone_key UNIQUE,
    custom text CONSTRAINT profiles_custom_key UNIQUE,
    version integer NOT NULL CONSTRAINT profiles_version_check CHECK (version >= 1),
    -- How long the record lives, in the caller's words, and what follows from them.
    final_time text,
    sliding_time text,
    final_at timestamptz,
    sliding_seconds bigint,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Pages of all profiles, oldest first.
CREATE INDEX profiles_created_at_idx ON profiles (created_at, id);
-- What has run out.
CREATE INDEX profiles_expires_at_idx ON profiles (expires_at) WHERE expires_at IS NOT NULL;
