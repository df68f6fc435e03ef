-- A digest of what the catalogs say of the schema and its role, from when it became ready: a set-up takes it only while the
-- catalogs still say the same. NULL in rows of older programs.
ALTER TABLE vacancies ADD COLUMN catalog_digest text;
-- When it was found that the catalogs say something else. No set-up takes it any more.
ALTER TABLE vacancies ADD COLUMN damaged_at timestamptz;
