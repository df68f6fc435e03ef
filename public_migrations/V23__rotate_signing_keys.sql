-- Signing keys rotate, and their private halves are encrypted with a secret that is outside of the database, so
-- that reading these tables is not enough to sign.
--
-- wrapped_by: the fingerprint of the secret that private_key is encrypted with. Null: private_key is in clear, as
-- earlier versions stored it; the next start encrypts it.
ALTER TABLE signing_keys ADD COLUMN wrapped_by text;
-- The key signs from this time, until a key with a later one signs.
ALTER TABLE signing_keys ADD COLUMN signs_from timestamptz;
-- The key verifies until this time. Null: no other key succeeds it yet.
ALTER TABLE signing_keys ADD COLUMN verifies_until timestamptz;
-- The longest lifetime of an access token of all servers that sign with the key.
ALTER TABLE signing_keys ADD COLUMN token_lifetime_seconds bigint NOT NULL DEFAULT 0;
UPDATE signing_keys SET signs_from = created_at;
ALTER TABLE signing_keys ALTER COLUMN signs_from SET NOT NULL;
