-- Windows that are not the sum of their hours, their days or their runs' totals.
-- $1 tenant or null for all; $2 limit.
WITH hourly AS (
    SELECT tenant, meter, label, subject, sum(amount_sum) AS amounts, sum(events) AS events
    FROM usage_hourly WHERE $1::text IS NULL OR tenant = $1
    GROUP BY tenant, meter, label, subject
), daily AS (
    SELECT tenant, meter, label, subject, sum(amount_sum) AS amounts, sum(events) AS events
    FROM usage_daily WHERE $1::text IS NULL OR tenant = $1
    GROUP BY tenant, meter, label, subject
), run AS (
    SELECT tenant, meter, label, subject,
        sum(consumed + recorded - undone) AS units, sum(forfeited) AS forfeits
    FROM run_totals WHERE $1::text IS NULL OR tenant = $1
    GROUP BY tenant, meter, label, subject
), win AS (
    SELECT tenant, meter, label, subject, used, forfeited, amount_sum, events
    FROM window_totals WHERE $1::text IS NULL OR tenant = $1
)
SELECT
    tenant AS "tenant!", meter AS "meter!", label AS "label!", subject AS "subject!",
    compared.parts AS "parts!",
    compared.window_value::bigint AS "window!",
    compared.sum_of_parts::bigint AS "sum_of_parts!"
-- Full joins, so that parts without a window show as well.
FROM win
FULL JOIN hourly USING (tenant, meter, label, subject)
FULL JOIN daily USING (tenant, meter, label, subject)
FULL JOIN run USING (tenant, meter, label, subject)
CROSS JOIN LATERAL (VALUES
    ('hourly_amounts', coalesce(win.amount_sum, 0), coalesce(hourly.amounts, 0)),
    ('hourly_events', coalesce(win.events, 0), coalesce(hourly.events, 0)),
    ('daily_amounts', coalesce(win.amount_sum, 0), coalesce(daily.amounts, 0)),
    ('daily_events', coalesce(win.events, 0), coalesce(daily.events, 0)),
    ('run_units', coalesce(win.used, 0), coalesce(run.units, 0)),
    ('run_forfeits', coalesce(win.forfeited, 0), coalesce(run.forfeits, 0))
) AS compared (parts, window_value, sum_of_parts)
WHERE compared.window_value <> compared.sum_of_parts
ORDER BY tenant, meter, label, subject, compared.parts
LIMIT $2
