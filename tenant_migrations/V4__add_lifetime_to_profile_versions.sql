-- A version carries the lifetime that its profile was stored with: a deleted profile comes back with the end
-- that it had, and where that end has passed, what is left of it is erased too.
ALTER TABLE profile_versions
    ADD COLUMN final_time text,
    ADD COLUMN sliding_time text,
    ADD COLUMN final_at timestamptz,
    ADD COLUMN sliding_seconds bigint;

-- What is to be erased.
CREATE INDEX profile_versions_final_at_idx ON profile_versions (final_at) WHERE final_at IS NOT NULL;
