-- Adds a batch's tallies to usage_daily. $1..$12 one array per column, sorted by key.
INSERT INTO usage_daily (
    tenant, meter, label, subject, day, group_values,
    amount_sum, events, amount_max, last_amount, last_at, covered
)
SELECT * FROM UNNEST(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::bigint[]
)
ON CONFLICT (tenant, meter, day, label, subject, group_values) DO UPDATE SET
    amount_sum = usage_daily.amount_sum + excluded.amount_sum,
    covered = usage_daily.covered + excluded.covered,
    events = usage_daily.events + excluded.events,
    amount_max = greatest(usage_daily.amount_max, excluded.amount_max),
    -- The latest by event time; of several at the same time, the largest.
    last_amount = CASE
        WHEN (excluded.last_at, excluded.last_amount)
            > (usage_daily.last_at, usage_daily.last_amount) THEN excluded.last_amount
        ELSE usage_daily.last_amount
    END,
    last_at = greatest(usage_daily.last_at, excluded.last_at)
