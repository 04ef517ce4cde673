-- Windows that are not the sum of their hours, their days or their runs' totals.
-- $1 tenant, $2 meter, $3 label, each null for all; $4 the least start of a window, in seconds since
-- the epoch, null for all (a lifetime has none); $5 limit.
WITH hourly AS (
    SELECT tenant, meter, label, subject, sum(amount_sum) AS amounts, sum(events) AS events,
        sum(covered) AS covered, max(amount_max) AS amount_max,
        (array_agg(last_amount ORDER BY last_at DESC, last_amount DESC))[1] AS last_amount
    FROM usage_hourly
    WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR meter = $2)
        AND ($3::text IS NULL OR label = $3)
    GROUP BY tenant, meter, label, subject
), daily AS (
    SELECT tenant, meter, label, subject, sum(amount_sum) AS amounts, sum(events) AS events,
        sum(covered) AS covered, max(amount_max) AS amount_max,
        (array_agg(last_amount ORDER BY last_at DESC, last_amount DESC))[1] AS last_amount
    FROM usage_daily
    WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR meter = $2)
        AND ($3::text IS NULL OR label = $3)
    GROUP BY tenant, meter, label, subject
), run AS (
    SELECT tenant, meter, label, subject,
        sum(consumed + recorded - undone) AS units, sum(forfeited) AS forfeits
    FROM run_totals
    WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR meter = $2)
        AND ($3::text IS NULL OR label = $3)
    GROUP BY tenant, meter, label, subject
), win AS (
    SELECT tenant, meter, label, subject, aggregation, used, forfeited, amount_sum, events,
        amount_max, last_amount
    FROM window_totals
    WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR meter = $2)
        AND ($3::text IS NULL OR label = $3)
)
SELECT
    tenant AS "tenant!", meter AS "meter!", label AS "label!", subject AS "subject!",
    compared.parts AS "parts!",
    coalesce(compared.window_value, 0)::bigint AS "window!",
    coalesce(compared.sum_of_parts, 0)::bigint AS "sum_of_parts!"
-- Full joins, so that parts without a window show as well.
FROM win
FULL JOIN hourly USING (tenant, meter, label, subject)
FULL JOIN daily USING (tenant, meter, label, subject)
FULL JOIN run USING (tenant, meter, label, subject)
CROSS JOIN LATERAL (VALUES
    ('hourly_amounts', coalesce(win.amount_sum, 0), coalesce(hourly.amounts, 0)),
    ('hourly_events', coalesce(win.events, 0), coalesce(hourly.events, 0)),
    ('hourly_max', win.amount_max, hourly.amount_max),
    ('hourly_last', win.last_amount, hourly.last_amount),
    ('daily_amounts', coalesce(win.amount_sum, 0), coalesce(daily.amounts, 0)),
    ('daily_events', coalesce(win.events, 0), coalesce(daily.events, 0)),
    ('daily_max', win.amount_max, daily.amount_max),
    ('daily_last', win.last_amount, daily.last_amount),
    ('run_units', coalesce(win.used, 0), coalesce(run.units, 0)),
    ('run_forfeits', coalesce(win.forfeited, 0), coalesce(run.forfeits, 0)),
    -- What grants and pools covered is in their windows and not in the meter's own.
    ('hourly_units', coalesce(win.used, 0), CASE coalesce(win.aggregation, 'sum')
        WHEN 'sum' THEN coalesce(hourly.amounts - hourly.covered, 0)
        WHEN 'count' THEN coalesce(hourly.events - hourly.covered, 0)
        ELSE 0 END),
    ('daily_units', coalesce(win.used, 0), CASE coalesce(win.aggregation, 'sum')
        WHEN 'sum' THEN coalesce(daily.amounts - daily.covered, 0)
        WHEN 'count' THEN coalesce(daily.events - daily.covered, 0)
        ELSE 0 END)
) AS compared (parts, window_value, sum_of_parts)
WHERE compared.window_value IS DISTINCT FROM compared.sum_of_parts
    -- A grant's and a pool's windows have no hours: they are made of what runs counted there.
    AND (compared.parts IN ('run_units', 'run_forfeits')
        OR NOT starts_with(label, 'grant_') AND NOT starts_with(tenant, 'pool!'))
    AND ($4::bigint IS NULL OR starts_with(label, 'lifetime:')
        OR split_part(label, ':', 2)::bigint >= $4)
ORDER BY tenant, meter, label, subject, compared.parts
LIMIT $5
