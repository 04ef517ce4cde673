-- Hours of a meter that are not the sum of the raw events that are kept of them.
-- $1 tenant; $2 meter; $3 label, null for all; $4 the least start of a window, in seconds since the
-- epoch, null for all; $5 the first hour whose events are all kept: of an earlier one some may be
-- deleted, and only too many are wrong; $6 limit.
WITH kept AS (
    SELECT label, subject, date_trunc('hour', event_at, 'UTC') AS hour,
        count(*) AS events, sum(amount) AS amounts
    FROM usage_events
    WHERE tenant = $1 AND meter = $2 AND ($3::text IS NULL OR label = $3)
    GROUP BY 1, 2, 3
), summed AS (
    SELECT label, subject, hour, sum(events) AS events, sum(amount_sum) AS amounts
    FROM usage_hourly
    WHERE tenant = $1 AND meter = $2 AND ($3::text IS NULL OR label = $3)
    GROUP BY 1, 2, 3
)
SELECT
    label AS "label!", subject AS "subject!", hour AS "hour!: jiff_sqlx::Timestamp",
    coalesce(summed.events, 0)::bigint AS "hour_events!",
    coalesce(summed.amounts, 0)::bigint AS "hour_amounts!",
    coalesce(kept.events, 0)::bigint AS "kept_events!",
    coalesce(kept.amounts, 0)::bigint AS "kept_amounts!"
FROM summed FULL JOIN kept USING (label, subject, hour)
WHERE ($4::bigint IS NULL OR starts_with(label, 'lifetime:')
        OR split_part(label, ':', 2)::bigint >= $4)
    AND CASE WHEN hour >= $5
        THEN (summed.events, summed.amounts) IS DISTINCT FROM (kept.events, kept.amounts)
        ELSE coalesce(kept.events, 0) > coalesce(summed.events, 0) END
ORDER BY label, subject, hour
LIMIT $6
