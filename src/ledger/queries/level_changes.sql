-- A level's changes by hour, as far as grants and pools do not cover them; those before $5 are added up into one, at their first hour.
-- $1..$4 the counter's key.
SELECT
    min(hour) AS "hour!: jiff_sqlx::Timestamp",
    sum(amount_sum - covered)::bigint AS "delta!"
FROM usage_hourly
WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4
GROUP BY CASE WHEN hour < $5 THEN '-infinity' ELSE hour END
ORDER BY 1
