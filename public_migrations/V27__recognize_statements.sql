-- A file that runs outside a transaction and failed half-way may be mended before it runs again. A statement that has
-- run is recognized by its digest; its place in the file alone would let a changed one be skipped. The columns are null
-- in rows that an older program wrote: such a statement is recognized by its place.
ALTER TABLE migration_statements ADD COLUMN digest text;
-- The statement without its literals, for messages.
ALTER TABLE migration_statements ADD COLUMN summary text;
-- The index that the statement creates, or drops, outside a transaction.
ALTER TABLE migration_statements ADD COLUMN created_index text;
ALTER TABLE migration_statements ADD COLUMN dropped_index text;
