-- A pool that was given another size admits no more than that in all while what is used may not fit its shares.
ALTER TABLE pools ADD COLUMN settling jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN pools.settling IS 'While what is used may not fit the shares: for each class, in their order, and then for what is in common, what it admits up to (ceiling) and what may be taken of it at most (held_max). Else empty';
COMMENT ON COLUMN pools.classes IS 'Priority classes of members, the highest first, each with its percentage and the base units that it keeps back from lower ones';
