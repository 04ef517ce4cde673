-- Adds a batch's sums to window_totals. $1..$11 one array per column, sorted by key.
INSERT INTO window_totals (
    tenant, meter, label, subject, aggregation, used,
    amount_sum, events, amount_max, last_amount, last_at
)
SELECT * FROM UNNEST(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[]
)
ON CONFLICT (tenant, meter, label, subject) DO UPDATE SET
    aggregation = excluded.aggregation,
    used = window_totals.used + excluded.used,
    amount_sum = window_totals.amount_sum + excluded.amount_sum,
    events = window_totals.events + excluded.events,
    -- A row that a forfeit made has no events yet, so its maximum and its last are null.
    amount_max = greatest(window_totals.amount_max, excluded.amount_max),
    last_amount = CASE
        WHEN window_totals.last_at IS NULL
            OR (excluded.last_at, excluded.last_amount)
                > (window_totals.last_at, window_totals.last_amount) THEN excluded.last_amount
        ELSE window_totals.last_amount
    END,
    last_at = greatest(window_totals.last_at, excluded.last_at),
    updated_at = now()
