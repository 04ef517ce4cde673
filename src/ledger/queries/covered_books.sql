-- Meters of a tenant whose hours say that grants and pools covered another amount than stands there.
-- Over all windows, since what covers usage has windows of its own. $1 tenant; $2 meter, null for all.
WITH hours AS (
    SELECT meter, sum(covered) AS covered
    FROM usage_hourly WHERE tenant = $1 AND ($2::text IS NULL OR meter = $2) GROUP BY meter
), grants_used AS (
    SELECT meter, sum(used) AS used
    FROM window_totals
    WHERE tenant = $1 AND starts_with(label, 'grant_') AND ($2::text IS NULL OR meter = $2)
    GROUP BY meter
), pools_used AS (
    SELECT meter, sum(used) AS used
    FROM pool_usage WHERE tenant = $1 AND ($2::text IS NULL OR meter = $2) GROUP BY meter
)
SELECT meter AS "meter!", coalesce(hours.covered, 0)::bigint AS "hours!",
    (coalesce(grants_used.used, 0) + coalesce(pools_used.used, 0))::bigint AS "covering!"
FROM hours FULL JOIN grants_used USING (meter) FULL JOIN pools_used USING (meter)
WHERE coalesce(hours.covered, 0) <> coalesce(grants_used.used, 0) + coalesce(pools_used.used, 0)
ORDER BY meter
