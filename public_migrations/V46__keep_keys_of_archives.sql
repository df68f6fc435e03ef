-- works with: V40
-- The public halves of the keys that signed archives: an archive is read long after its key has ended. A key that is
-- retired is deleted here too, and what it signed is then trusted only on request.
CREATE TABLE archive_keys (
    kid text NOT NULL CONSTRAINT archive_keys_pkey PRIMARY KEY,
    -- A JSON Web Key.
    public_key jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
