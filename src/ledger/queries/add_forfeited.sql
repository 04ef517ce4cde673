-- Adds a closed run's forfeited escrow to its own totals and to its windows' totals.
-- $1 run; $2..$6 one array per column, sorted by key.
WITH forfeits AS (
    SELECT tenant, meter, label, subject, units
    FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
        AS f (tenant, meter, label, subject, units)
), of_run AS (
    INSERT INTO run_totals
        (tenant, meter, label, subject, run, consumed, recorded, undone, forfeited)
    SELECT tenant, meter, label, subject, $1, 0, 0, 0, units FROM forfeits
    ON CONFLICT (tenant, meter, label, subject, run)
    DO UPDATE SET forfeited = run_totals.forfeited + excluded.forfeited
)
-- A counter without any event yet gets its row here; only summed counters hold escrow.
INSERT INTO window_totals
    (tenant, meter, label, subject, aggregation, used, forfeited, amount_sum, events)
SELECT tenant, meter, label, subject, 'sum', 0, units, 0, 0 FROM forfeits
ON CONFLICT (tenant, meter, label, subject)
DO UPDATE SET forfeited = window_totals.forfeited + excluded.forfeited, updated_at = now()
