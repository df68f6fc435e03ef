-- API keys are tokens that work in one tenant for the person who made them.
ALTER TABLE tokens ADD COLUMN kind text NOT NULL DEFAULT 'token';
ALTER TABLE tokens ADD CONSTRAINT tokens_kind_check CHECK (kind IN ('token', 'api_key'));
-- Whom the key works for: it may do no more than they may there now, and goes when they go. Null for a token, and
-- for a key that no user made.
ALTER TABLE tokens ADD COLUMN user_id uuid;
ALTER TABLE tokens ADD CONSTRAINT tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

CREATE INDEX tokens_user_id_idx ON tokens (user_id) WHERE user_id IS NOT NULL;
