-- An operation has one key for all that it takes: its parts count together or not at all.
ALTER TABLE usage_keys ADD COLUMN operation text NOT NULL DEFAULT '';
COMMENT ON COLUMN usage_keys.operation IS 'Fingerprint of an operation: its name and the amount of each meter; meter, subject and amount are then empty. Empty = the key is an event''s';
