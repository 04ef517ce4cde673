-- A member's use of a pool is its own: whoever lowers more than it drew goes below 0, and frees nothing of others'.
COMMENT ON COLUMN pool_usage.used IS 'Base units; below 0: a level was lowered by more than was drawn (or was flushed before it), which comes off what is drawn next. The pool''s counters add up to what is above 0';
