-- Adds a batch's tallies to usage_hourly. $1..$12 one array per column, sorted by key.
INSERT INTO usage_hourly (
    tenant, meter, label, subject, hour, group_values,
    amount_sum, events, amount_max, last_amount, last_at, covered
)
SELECT * FROM UNNEST(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::bigint[]
)
ON CONFLICT (tenant, meter, hour, label, subject, group_values) DO UPDATE SET
    amount_sum = usage_hourly.amount_sum + excluded.amount_sum,
    covered = usage_hourly.covered + excluded.covered,
    events = usage_hourly.events + excluded.events,
    amount_max = greatest(usage_hourly.amount_max, excluded.amount_max),
    -- The latest by event time; of several at the same time, the largest.
    last_amount = CASE
        WHEN (excluded.last_at, excluded.last_amount)
            > (usage_hourly.last_at, usage_hourly.last_amount) THEN excluded.last_amount
        ELSE usage_hourly.last_amount
    END,
    last_at = greatest(usage_hourly.last_at, excluded.last_at)
