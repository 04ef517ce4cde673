-- Whoever has usage or may have: tenants, and the owners of pools' counters, in the database's order.
-- Each step of the recursions is one look at an index. $1 the last of the page before; $2 limit.
WITH RECURSIVE windows AS (
    (SELECT tenant FROM window_totals WHERE tenant > $1 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT w.tenant FROM window_totals w
            WHERE w.tenant > windows.tenant ORDER BY w.tenant LIMIT 1)
    FROM windows WHERE windows.tenant IS NOT NULL
), touched AS (
    (SELECT tenant FROM run_totals WHERE tenant > $1 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT r.tenant FROM run_totals r
            WHERE r.tenant > touched.tenant ORDER BY r.tenant LIMIT 1)
    FROM touched WHERE touched.tenant IS NOT NULL
)
SELECT owner.tenant AS "tenant!"
FROM (
    (SELECT tenant FROM tenants WHERE tenant > $1 ORDER BY tenant LIMIT $2)
    UNION (SELECT tenant FROM windows WHERE tenant IS NOT NULL LIMIT $2)
    UNION (SELECT tenant FROM touched WHERE tenant IS NOT NULL LIMIT $2)
) AS owner
ORDER BY owner.tenant
LIMIT $2
