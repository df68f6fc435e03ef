-- Every state that a profile has been in. It outlives the profile, so that one can be restored.
CREATE TABLE profile_versions (
    profile_id uuid NOT NULL,
    version integer NOT NULL CONSTRAINT profile_versions_version_check CHECK (version >= 1),
    profile json NOT NULL,
    md5 text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT profile_versions_pkey PRIMARY KEY (profile_id, version)
);
