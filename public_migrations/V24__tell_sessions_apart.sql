-- What a user needs to tell their sessions apart: when each was last used, and the user agent that used it (its first
-- 200 characters; never an address). Unknown for sessions that are older than this migration.
ALTER TABLE sessions ADD COLUMN last_used_at timestamptz;
ALTER TABLE sessions ADD COLUMN client text NOT NULL DEFAULT '';
