-- A token that a user made works for that user, as an API key does: it may do no more than they may now, and goes
-- when they go. So do those that such a token made. A tenant's own token (a UUID) is the tenant's, whoever set it up.
UPDATE tokens
   SET user_id = made.user_id
  FROM (WITH RECURSIVE made AS (
            SELECT t.id, u.id AS user_id
              FROM tokens t
              JOIN users u ON t.created_by = 'user:' || u.id::text
             WHERE t.kind = 'token' AND t.hint LIKE 'rh\_%'
             UNION
            SELECT t.id, made.user_id
              FROM made
              JOIN tokens t ON t.created_by = 'token:' || made.id::text
             WHERE t.kind = 'token' AND t.hint LIKE 'rh\_%'
        )
        SELECT id, user_id FROM made) made
 WHERE tokens.id = made.id;
