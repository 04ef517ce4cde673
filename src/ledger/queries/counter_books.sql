-- For each counter asked for: its totals, and what each run that is not folded into the shared
-- counters has added to it. One statement, so one snapshot. $1..$4 one array per column of the key.
SELECT
    asked.ordinal AS "ordinal!",
    now() AS "at!: jiff_sqlx::Timestamp",
    coalesce(w.used, 0) AS "used!",
    coalesce(w.forfeited, 0) AS "forfeited!",
    apart.run AS "run?", apart.consumed AS "consumed?", apart.recorded AS "recorded?",
    apart.undone AS "undone?", apart.forfeited AS "run_forfeited?",
    apart.mark_at AS "mark_at?: jiff_sqlx::Timestamp", apart.is_open AS "is_open?"
FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[])
    WITH ORDINALITY AS asked (tenant, meter, label, subject, ordinal)
LEFT JOIN window_totals w USING (tenant, meter, label, subject)
LEFT JOIN LATERAL (
    SELECT rt.run, rt.consumed, rt.recorded, rt.undone, rt.forfeited, r.mark_at,
        r.closed_at IS NULL AS is_open
    FROM run_totals rt
    JOIN runs r ON r.run = rt.run AND r.folded_at IS NULL
    WHERE rt.tenant = asked.tenant AND rt.meter = asked.meter
        AND rt.label = asked.label AND rt.subject = asked.subject
) apart ON true
ORDER BY asked.ordinal, apart.run
