ALTER TABLE runs ADD COLUMN heard_at timestamptz;
COMMENT ON COLUMN runs.heard_at IS 'When it last registered, flushed or said that it is there, by this server''s clock; null where an older sidecar did. mark_at stands still while it holds something';
