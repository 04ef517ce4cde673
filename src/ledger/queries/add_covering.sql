-- Adds what grants and pools covered to their window_totals. The events themselves are in their own
-- windows; only summed meters are covered. $1..$5 one array per column, sorted by key.
INSERT INTO window_totals
    (tenant, meter, label, subject, aggregation, used, used_max, amount_sum, events)
SELECT tenant, meter, label, subject, 'sum', used, used, 0, 0
FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS c (tenant, meter, label, subject, used)
ON CONFLICT (tenant, meter, label, subject)
DO UPDATE SET
    used = window_totals.used + excluded.used,
    -- A level that goes down takes nothing off it; a row of before the column begins with what it had.
    used_max = greatest(
        window_totals.used_max, window_totals.used, window_totals.used + excluded.used),
    updated_at = now()
