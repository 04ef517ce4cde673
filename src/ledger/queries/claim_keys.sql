-- Claims idempotency keys, in the order given, and answers which were taken already.
-- $1 run; $2..$8 one array per column, one element per key, no key twice.
WITH asked AS (
    SELECT tenant, idempotency_key, ordinal
    FROM UNNEST($2::text[], $3::text[])
        WITH ORDINALITY AS a (tenant, idempotency_key, ordinal)
), claimed AS (
    INSERT INTO usage_keys
        (tenant, idempotency_key, meter, subject, amount, operation, run, journal_position)
    SELECT tenant, idempotency_key, meter, subject, amount, operation, $1, journal_position
    FROM UNNEST(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[]
    ) AS k (tenant, idempotency_key, meter, subject, amount, operation, journal_position)
    -- Waits for a transaction that is claiming the same key.
    ON CONFLICT (tenant, idempotency_key) DO NOTHING
    RETURNING tenant, idempotency_key
)
SELECT asked.ordinal AS "ordinal!"
FROM asked LEFT JOIN claimed USING (tenant, idempotency_key)
WHERE claimed.tenant IS NULL
ORDER BY asked.ordinal
