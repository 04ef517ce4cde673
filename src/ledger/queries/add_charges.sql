-- Writes charges that are not there yet; whoever came first with a key has charged it.
-- $1: an array of objects, one per charge, with a field per column.
INSERT INTO charges (charge, tenant, meter, label, subject, kind, account, subscription,
    period_start, period_end, quantity, rate, amount_minor, currency, catalog, plan, plan_version,
    explanation)
SELECT charge, tenant, meter, label, subject, kind, account, subscription,
    period_start, period_end, quantity, rate, amount_minor, currency, catalog, plan, plan_version,
    explanation
FROM jsonb_to_recordset($1::jsonb) AS new (charge uuid, tenant text, meter text, label text,
    subject text, kind text, account text, subscription uuid, period_start timestamptz,
    period_end timestamptz, quantity numeric, rate numeric, amount_minor bigint, currency text,
    catalog text, plan text, plan_version integer, explanation jsonb)
-- In the order of the key, so that two jobs that write the same charges do not wait in a circle.
ORDER BY tenant, meter, label, subject, kind
ON CONFLICT (tenant, meter, label, subject, kind) DO NOTHING
RETURNING amount_minor, currency
