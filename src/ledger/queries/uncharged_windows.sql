-- Windows of priced meters that have no charge of this kind yet, in the order of their keys.
-- $1, $2: one array per column of (tenant, meter); $3 kind; $4..$7 the last key of the page before;
-- $8 the most rows.
SELECT w.tenant, w.meter, w.label, w.subject, w.used, w.amount_max, w.last_amount, w.distinct_sketch
FROM UNNEST($1::text[], $2::text[]) AS priced (tenant, meter)
JOIN window_totals w USING (tenant, meter)
-- What grants covered is not overage; it is paid with the grant.
WHERE NOT starts_with(w.label, 'grant_')
    AND (w.tenant, w.meter, w.label, w.subject) > ($4, $5, $6, $7)
    AND NOT EXISTS (
        SELECT 1 FROM charges c
        WHERE c.tenant = w.tenant AND c.meter = w.meter AND c.label = w.label
            AND c.subject = w.subject AND c.kind = $3)
ORDER BY w.tenant, w.meter, w.label, w.subject
LIMIT $8
