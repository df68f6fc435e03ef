-- People who can log in. What a tenant stores about a person is a profile and lives in the tenant's schema.
CREATE TABLE users (
    id uuid NOT NULL CONSTRAINT users_pkey PRIMARY KEY,
    -- Trimmed and in lower case: addresses that differ only in case are one.
    email text NOT NULL CONSTRAINT users_email_key UNIQUE,
    first_name text NOT NULL,
    last_name text NOT NULL,
    -- An argon2id PHC string; null for a user who cannot log in by password.
    password_hash text,
    -- A role that holds in every tenant and outside of all.
    platform_role text CONSTRAINT users_platform_role_check
        CHECK (platform_role IN ('SUPER_ADMIN', 'ADMIN', 'FDE', 'VIEWER')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
