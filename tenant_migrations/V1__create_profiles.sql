-- What a tenant stores about a person. The document comes back exactly as it was given; the four keys
-- that a person is found by stand beside it, each unique within the tenant.
CREATE TABLE profiles (
    id uuid NOT NULL CONSTRAINT profiles_pkey PRIMARY KEY,
    profile jsonb NOT NULL,
    email text CONSTRAINT profiles_email_key UNIQUE,
    login text CONSTRAINT profiles_login_key UNIQUE,
    phone text CONSTRAINT profiles_phone_key UNIQUE,
    custom text CONSTRAINT profiles_custom_key UNIQUE,
    version integer NOT NULL CONSTRAINT profiles_version_check CHECK (version >= 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
