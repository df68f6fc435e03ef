-- When a set-up found that the node of the vacancy was away; NULL while it can be taken.
ALTER TABLE vacancies ADD COLUMN away_at timestamptz;
