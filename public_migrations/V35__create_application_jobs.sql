-- The jobs of an application that one server of all runs at a time, each with its lease.
CREATE TABLE application_jobs (
    name text COLLATE "C" NOT NULL CONSTRAINT application_jobs_pkey PRIMARY KEY,
    -- When it is to run next.
    due_at timestamptz NOT NULL,
    -- The run that has the lease, and when the lease ends unless it is renewed; NULL while it does not run.
    run_id uuid,
    lease_until timestamptz,
    -- When it last succeeded.
    succeeded_at timestamptz
);
