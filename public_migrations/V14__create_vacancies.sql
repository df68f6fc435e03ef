-- Schemas that are built before anybody asks for them, each under the id of the tenant that it will belong
-- to: a set-up takes one by deleting its row here and writing the tenant's, and needs no DDL.
CREATE TABLE vacancies (
    -- The future tenant's.
    id uuid NOT NULL CONSTRAINT vacancies_pkey PRIMARY KEY,
    -- building: the role is there; ready: all of it is, and it may be taken; dropping: less and less of it is.
    state text NOT NULL CONSTRAINT vacancies_state_check CHECK (state IN ('building', 'ready', 'dropping')),
    -- How its tenant will be kept apart from the others, which decides on roles and grants.
    isolation text NOT NULL CONSTRAINT vacancies_isolation_check CHECK (isolation IN ('role', 'search_path')),
    -- Which database holds the schema, as in tenants.
    cluster text NOT NULL,
    -- What the schema is migrated to, as in tenants.
    migrations_version integer NOT NULL,
    migrations_fingerprint text NOT NULL,
    created_at timestamptz NOT NULL
);

-- The one to take next: the oldest of those that fit.
CREATE INDEX vacancies_ready_idx ON vacancies (migrations_fingerprint, isolation, created_at, id)
    WHERE state = 'ready';

-- The processes that look after a stock of vacancies, so that they agree on how many there should be, and
-- that what nobody wants any more can be told. A process that ended without a word is forgotten by the time.
CREATE TABLE vacancy_keepers (
    -- Drawn by the process when it starts.
    id uuid NOT NULL CONSTRAINT vacancy_keepers_pkey PRIMARY KEY,
    isolation text NOT NULL CONSTRAINT vacancy_keepers_isolation_check CHECK (isolation IN ('role', 'search_path')),
    cluster text NOT NULL,
    migrations_version integer NOT NULL,
    migrations_fingerprint text NOT NULL,
    wanted integer NOT NULL,
    seen_at timestamptz NOT NULL
);
