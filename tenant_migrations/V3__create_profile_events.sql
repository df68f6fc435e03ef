-- Who did what to which profile, written in the same statement as what it tells.
CREATE TABLE profile_events (
    id uuid NOT NULL CONSTRAINT profile_events_pkey PRIMARY KEY,
    profile_id uuid NOT NULL,
    at timestamptz NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    request_id text NOT NULL
);

CREATE INDEX profile_events_profile_id_idx ON profile_events (profile_id, at, id);
