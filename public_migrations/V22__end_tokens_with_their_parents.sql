-- The token or API key that made this one. It ends with that one, and no later: a token is good only while each of its
-- ancestors is.
ALTER TABLE tokens ADD COLUMN parent_id uuid;
-- The secret that a rotation replaced, and until when it stays good.
ALTER TABLE tokens ADD COLUMN previous_digest bytea;
ALTER TABLE tokens ADD COLUMN previous_until timestamptz;
ALTER TABLE tokens ADD COLUMN rotated_at timestamptz;

-- The form of the secret depends on the kind: a tenant's own token and a person's are UUIDs.
ALTER TABLE tokens DROP CONSTRAINT tokens_kind_check;
ALTER TABLE tokens ADD CONSTRAINT tokens_kind_check CHECK (kind IN ('token', 'api_key', 'xtoken', 'person'));
UPDATE tokens SET kind = 'person' WHERE profile_id IS NOT NULL;
UPDATE tokens SET kind = 'xtoken' WHERE kind = 'token' AND hint ~ '^[0-9a-f]{4}…$';

UPDATE tokens
   SET parent_id = maker.id
  FROM tokens maker
 WHERE tokens.created_by = 'token:' || maker.id::text AND tokens.id <> maker.id;

-- What has outlived its maker ends, and what would outlive it ends with it.
UPDATE tokens
   SET revoked_at = coalesce(tokens.revoked_at, line.revoked_at),
       expires_at = least(tokens.expires_at, line.expires_at)
  FROM (WITH RECURSIVE line AS (
            SELECT id, revoked_at, expires_at FROM tokens WHERE parent_id IS NULL
             UNION ALL
            SELECT child.id,
                   coalesce(child.revoked_at, line.revoked_at),
                   least(child.expires_at, line.expires_at)
              FROM line
              JOIN tokens child ON child.parent_id = line.id
        )
        SELECT id, revoked_at, expires_at FROM line) line
 WHERE tokens.id = line.id AND tokens.parent_id IS NOT NULL;

ALTER TABLE tokens ADD CONSTRAINT tokens_parent_id_fkey
    FOREIGN KEY (parent_id) REFERENCES tokens (id) ON DELETE CASCADE;
CREATE INDEX tokens_parent_id_idx ON tokens (parent_id) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX tokens_previous_digest_idx ON tokens (previous_digest) WHERE previous_digest IS NOT NULL;
