ALTER TABLE window_totals ADD COLUMN used_max bigint;
COMMENT ON COLUMN window_totals.used_max IS 'Of grants and pools: the most that used stood at after any flush; what emergency usage of a level is billed on. Null where no usage came since the column is there';
COMMENT ON COLUMN runs.mark_at IS 'Real time through which everything it acknowledged is in the ledger; not past the beginning of anything that it still holds';
