-- works with: V40
-- Examinations of the database (`doctor`) that were asked for over HTTP, with what they found. The newest are kept.
CREATE TABLE examinations (
    id uuid NOT NULL CONSTRAINT examinations_pkey PRIMARY KEY,
    state text NOT NULL CONSTRAINT examinations_state_check CHECK (state IN ('running', 'done', 'failed')),
    actor text NOT NULL,
    -- The request: tenants, whether to repair, orphans to drop.
    options jsonb NOT NULL,
    -- A running examination whose lease has ended belongs to a server that is gone.
    lease_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    tenant_count bigint,
    vacancy_count bigint,
    wrong_count bigint,
    warning_count bigint,
    repaired_count bigint,
    -- Why it failed.
    error text
);
CREATE UNIQUE INDEX examinations_running_key ON examinations (state) WHERE state = 'running';
CREATE INDEX examinations_created_idx ON examinations (created_at, id);

CREATE TABLE examination_findings (
    examination_id uuid NOT NULL
        CONSTRAINT examination_findings_examination_id_fkey REFERENCES examinations (id) ON DELETE CASCADE,
    -- The place in the report, from 0.
    number bigint NOT NULL,
    area text NOT NULL,
    gravity text NOT NULL,
    tenant_id uuid,
    slug text,
    what text NOT NULL,
    actual text,
    expected text,
    next text NOT NULL,
    repairable boolean NOT NULL,
    -- open, repaired or failed
    outcome text NOT NULL,
    -- Why the repair failed.
    reason text,
    CONSTRAINT examination_findings_pkey PRIMARY KEY (examination_id, number)
);
