-- works with: V40
-- For each migration of the control plane, the oldest program that works with the control plane after it. A program is
-- named by its newest migration. A program from before a migration reads here whether it may serve on.
CREATE TABLE control_plane_versions (
    version integer NOT NULL CONSTRAINT control_plane_versions_pkey PRIMARY KEY,
    oldest_program integer NOT NULL,
    CONSTRAINT control_plane_versions_oldest_program_check CHECK (oldest_program BETWEEN 1 AND version)
);
