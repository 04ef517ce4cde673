-- Adds what grants and pools covered to their window_totals. The events themselves are in their own
-- windows; only summed meters are covered. $1..$5 one array per column, sorted by key.
INSERT INTO window_totals (tenant, meter, label, subject, aggregation, used, amount_sum, events)
SELECT tenant, meter, label, subject, 'sum', used, 0, 0
FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS c (tenant, meter, label, subject, used)
ON CONFLICT (tenant, meter, label, subject)
DO UPDATE SET used = window_totals.used + excluded.used, updated_at = now()
