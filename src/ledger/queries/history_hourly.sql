-- A meter's usage by hour and, if asked, by one property: labels and subjects are added up.
-- $1 tenant; $2 meter; $3 subject or null for all; $4, $5 from and to; $6 property or null; $7 limit.
SELECT
    hour AS "start!",
    group_values ->> $6 AS group_value,
    sum(amount_sum)::bigint AS "amount_sum!",
    sum(events)::bigint AS "events!",
    max(amount_max) AS "amount_max!",
    (array_agg(last_amount ORDER BY last_at DESC, last_amount DESC))[1] AS "last_amount!",
    -- Merged by the caller; Postgres cannot.
    array_agg(distinct_sketch) FILTER (WHERE distinct_sketch IS NOT NULL) AS sketches
FROM usage_hourly
WHERE tenant = $1 AND meter = $2 AND hour >= $4 AND hour < $5
    AND ($3::text IS NULL OR subject = $3)
GROUP BY 1, 2
ORDER BY 1, 2
LIMIT $7
