-- For each counter asked for: its total, and what each open run has added to it. One statement, so
-- one snapshot: the closings that it sees are exactly those up to closed_seq.
-- $1..$4 one array per column of the key, $5 the run that asks.
SELECT
    asked.ordinal AS "ordinal!",
    (SELECT value FROM commit_sequences WHERE name = 'closing') AS "closed_seq!",
    EXISTS (SELECT FROM runs WHERE run = $5 AND closed_at IS NOT NULL) AS "is_closed!",
    coalesce(w.used, 0) AS "used!",
    coalesce(w.forfeited, 0) AS "forfeited!",
    coalesce(t.change_version, p.change_version, 0) AS "ceiling_version!",
    open.run AS "run?",
    open.consumed AS "consumed?",
    open.recorded AS "recorded?",
    open.undone AS "undone?"
FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[])
    WITH ORDINALITY AS asked (tenant, meter, label, subject, ordinal)
LEFT JOIN window_totals w USING (tenant, meter, label, subject)
LEFT JOIN tenants t ON t.tenant = asked.tenant
-- A pool's counters belong to owners that are named pool!<pool> or pool!<pool>!<class>.
LEFT JOIN pools p ON asked.tenant LIKE 'pool!%' AND p.pool::text = split_part(asked.tenant, '!', 2)
LEFT JOIN LATERAL (
    SELECT rt.run, rt.consumed, rt.recorded, rt.undone
    FROM run_totals rt
    JOIN runs r ON r.run = rt.run AND r.closed_at IS NULL
    WHERE rt.tenant = asked.tenant AND rt.meter = asked.meter
        AND rt.label = asked.label AND rt.subject = asked.subject
) open ON true
ORDER BY asked.ordinal, open.run
