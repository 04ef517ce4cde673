-- Adds raw events. $1 run; $2..$12 one array per column.
INSERT INTO usage_events (
    tenant, meter, label, subject, event_at, amount, distinct_value, idempotency_key, properties,
    run, journal_position, received_at, keep_until
)
SELECT
    tenant, meter, label, subject, event_at, amount, distinct_value, idempotency_key, properties,
    $1, journal_position, now(), now() + make_interval(days => retention_days)
FROM UNNEST(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[], $8::text[],
    $9::text[], $10::jsonb[], $11::bigint[], $12::integer[]
) AS e (
    tenant, meter, label, subject, event_at, amount, distinct_value, idempotency_key, properties,
    journal_position, retention_days
)
