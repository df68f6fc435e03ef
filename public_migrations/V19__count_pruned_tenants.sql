-- What tenants of an operation came to whose rows are no longer kept: the ledger forgets the rows of an old
-- operation, and never how many there were.
ALTER TABLE operations ADD COLUMN pruned_done_count bigint NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN pruned_failed_count bigint NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN pruned_skipped_count bigint NOT NULL DEFAULT 0;
