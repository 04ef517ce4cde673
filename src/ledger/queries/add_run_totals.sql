-- Adds a batch's shares to its run's totals; answers the totals of the counters where something was
-- undone. $1 run; $2..$8 one array per column, sorted by key.
WITH shares AS (
    SELECT tenant, meter, label, subject, consumed, recorded, undone
    FROM UNNEST(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[]
    ) AS s (tenant, meter, label, subject, consumed, recorded, undone)
), written AS (
    INSERT INTO run_totals (tenant, meter, label, subject, run, consumed, recorded, undone)
    SELECT tenant, meter, label, subject, $1, consumed, recorded, undone FROM shares
    ON CONFLICT (tenant, meter, label, subject, run) DO UPDATE SET
        consumed = run_totals.consumed + excluded.consumed,
        recorded = run_totals.recorded + excluded.recorded,
        undone = run_totals.undone + excluded.undone
    RETURNING tenant, meter, label, subject, consumed, recorded, undone
)
SELECT
    written.tenant AS "tenant!", written.meter AS "meter!", written.label AS "label!",
    written.subject AS "subject!", written.consumed AS "consumed!",
    written.recorded AS "recorded!", written.undone AS "undone!"
FROM written JOIN shares USING (tenant, meter, label, subject)
WHERE shares.undone > 0
