-- Makes a state the current one of its tenant's subscription and appends it to the history.
WITH current AS (
    INSERT INTO subscriptions (
        tenant, subscription, catalog, plan, plan_version, status, zone, anchor,
        billing_interval, anchor_version, started_at, revision
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (tenant) DO UPDATE SET
        subscription = excluded.subscription, catalog = excluded.catalog,
        plan = excluded.plan, plan_version = excluded.plan_version, status = excluded.status,
        zone = excluded.zone, anchor = excluded.anchor,
        billing_interval = excluded.billing_interval,
        anchor_version = excluded.anchor_version, started_at = excluded.started_at,
        revision = excluded.revision
)
INSERT INTO subscription_history (
    tenant, subscription, catalog, plan, plan_version, status, zone, anchor, billing_interval,
    anchor_version, revision, effective_at, change_version, actor, reason
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12, $13, $14, $15, $16)
