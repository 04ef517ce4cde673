-- Windows of a pool whose counters do not add up to what its members use of it. What a member stands
-- at below 0 is its own debt and no part of the counters.
-- $1 the pool; $2 label, null for all; $3 the least start of a window in seconds since the epoch,
-- null for all; $4 limit.
WITH members AS (
    SELECT meter, label, sum(greatest(used, 0)) AS used
    FROM pool_usage WHERE pool = $1 GROUP BY meter, label
), counters AS (
    SELECT meter, label, sum(used) AS used
    FROM window_totals
    WHERE tenant = 'pool!' || $1::text OR starts_with(tenant, 'pool!' || $1::text || '!')
    GROUP BY meter, label
)
SELECT meter AS "meter!", label AS "label!",
    coalesce(counters.used, 0)::bigint AS "counters!", coalesce(members.used, 0)::bigint AS "members!"
FROM members FULL JOIN counters USING (meter, label)
WHERE coalesce(counters.used, 0) <> coalesce(members.used, 0)
    AND ($2::text IS NULL OR label = $2)
    AND ($3::bigint IS NULL OR starts_with(label, 'lifetime:')
        OR split_part(label, ':', 2)::bigint >= $3)
ORDER BY meter, label
LIMIT $4
