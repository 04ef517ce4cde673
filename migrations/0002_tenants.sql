CREATE TABLE accounts (
    account text PRIMARY KEY,
    zone text NOT NULL,
    test_clock timestamptz,
    clock_set_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE accounts IS 'Who pays: one or more tenants';
COMMENT ON COLUMN accounts.account IS 'Id that the operator chose';
COMMENT ON COLUMN accounts.zone IS 'IANA name of the zone that new subscriptions of its tenants take';
COMMENT ON COLUMN accounts.test_clock IS 'The present of its tenants, moved by hand; null = the real present';
COMMENT ON COLUMN accounts.clock_set_at IS 'Real time at which test_clock was last set; null exactly when test_clock is';
COMMENT ON COLUMN accounts.created_at IS 'When the account was created, real time';

CREATE TABLE tenants (
    tenant text PRIMARY KEY,
    account text NOT NULL REFERENCES accounts (account),
    name text NOT NULL DEFAULT '',
    change_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenants IS 'Who is checked and metered';
COMMENT ON COLUMN tenants.tenant IS 'Id that the operator chose';
COMMENT ON COLUMN tenants.account IS 'Who pays for it';
COMMENT ON COLUMN tenants.name IS 'Name for people; may be empty';
COMMENT ON COLUMN tenants.change_version IS 'Number of the last change (commit_sequences) to the tenant, its subscription or its account''s clock; the version that limits travel under';
COMMENT ON COLUMN tenants.created_at IS 'When the tenant was created, real time';
CREATE INDEX tenants_account ON tenants (account);
CREATE UNIQUE INDEX tenants_change_version ON tenants (change_version, tenant);

CREATE TABLE subscriptions (
    tenant text PRIMARY KEY REFERENCES tenants (tenant),
    subscription uuid NOT NULL UNIQUE,
    catalog text NOT NULL,
    plan text NOT NULL,
    plan_version integer NOT NULL,
    status text NOT NULL
        CHECK (status IN ('trialing', 'active', 'past_due', 'suspended', 'cancelled')),
    zone text NOT NULL,
    anchor timestamptz NOT NULL,
    billing_interval text NOT NULL CHECK (billing_interval IN ('monthly', 'yearly')),
    anchor_version integer NOT NULL CHECK (anchor_version > 0),
    started_at timestamptz NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),
    FOREIGN KEY (catalog, plan, plan_version) REFERENCES plan_versions (catalog, plan, version)
);
COMMENT ON TABLE subscriptions IS 'The current subscription of each tenant; subscription_history has how it came about';
COMMENT ON COLUMN subscriptions.tenant IS 'The subscriber';
COMMENT ON COLUMN subscriptions.subscription IS 'Id of the subscription; a new one starts when a tenant subscribes anew';
COMMENT ON COLUMN subscriptions.catalog IS 'Catalog of the plan';
COMMENT ON COLUMN subscriptions.plan IS 'Plan within the catalog';
COMMENT ON COLUMN subscriptions.plan_version IS 'Version of the plan that the tenant signed';
COMMENT ON COLUMN subscriptions.status IS 'Where the subscription stands: trialing, active, past_due, suspended or cancelled';
COMMENT ON COLUMN subscriptions.zone IS 'IANA name of the zone of the tenant''s calendar windows';
COMMENT ON COLUMN subscriptions.anchor IS 'Instant that billing cycles are counted from';
COMMENT ON COLUMN subscriptions.billing_interval IS 'Length of a billing cycle: monthly or yearly';
COMMENT ON COLUMN subscriptions.anchor_version IS 'Grows whenever zone, anchor or interval change; part of every window label';
COMMENT ON COLUMN subscriptions.started_at IS 'When the subscription started, by the tenant''s clock';
COMMENT ON COLUMN subscriptions.revision IS 'Revision of subscription_history that this row equals';

CREATE TABLE subscription_history (
    tenant text NOT NULL REFERENCES tenants (tenant),
    subscription uuid NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),
    effective_at timestamptz NOT NULL,
    catalog text NOT NULL,
    plan text NOT NULL,
    plan_version integer NOT NULL,
    status text NOT NULL
        CHECK (status IN ('trialing', 'active', 'past_due', 'suspended', 'cancelled')),
    zone text NOT NULL,
    anchor timestamptz NOT NULL,
    billing_interval text NOT NULL CHECK (billing_interval IN ('monthly', 'yearly')),
    anchor_version integer NOT NULL CHECK (anchor_version > 0),
    change_version bigint NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, subscription, revision)
);
COMMENT ON TABLE subscription_history IS 'Every state that every subscription was in; append-only, since billing recomputes from it';
COMMENT ON COLUMN subscription_history.tenant IS 'The subscriber';
COMMENT ON COLUMN subscription_history.subscription IS 'Id of the subscription';
COMMENT ON COLUMN subscription_history.revision IS 'Counts from 1 within the subscription';
COMMENT ON COLUMN subscription_history.effective_at IS 'Since when this state holds, by the tenant''s clock';
COMMENT ON COLUMN subscription_history.catalog IS 'Catalog of the plan';
COMMENT ON COLUMN subscription_history.plan IS 'Plan within the catalog';
COMMENT ON COLUMN subscription_history.plan_version IS 'Version of the plan';
COMMENT ON COLUMN subscription_history.status IS 'Status, as in subscriptions';
COMMENT ON COLUMN subscription_history.zone IS 'Zone, as in subscriptions';
COMMENT ON COLUMN subscription_history.anchor IS 'Anchor, as in subscriptions';
COMMENT ON COLUMN subscription_history.billing_interval IS 'Interval, as in subscriptions';
COMMENT ON COLUMN subscription_history.anchor_version IS 'Anchor version, as in subscriptions';
COMMENT ON COLUMN subscription_history.change_version IS 'Number of the change that brought it (commit_sequences)';
COMMENT ON COLUMN subscription_history.actor IS 'Who did it';
COMMENT ON COLUMN subscription_history.reason IS 'Why; may be empty';
COMMENT ON COLUMN subscription_history.recorded_at IS 'When it was recorded, real time';

CREATE TABLE audit_log (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    account text,
    tenant text,
    detail jsonb NOT NULL
);
COMMENT ON TABLE audit_log IS 'Every change that an operator made to money, plans or access; append-only';
COMMENT ON COLUMN audit_log.entry IS 'Number of the entry';
COMMENT ON COLUMN audit_log.recorded_at IS 'When, real time';
COMMENT ON COLUMN audit_log.actor IS 'Who';
COMMENT ON COLUMN audit_log.action IS 'What was done, as verb and object (tenant.create)';
COMMENT ON COLUMN audit_log.account IS 'Account concerned, if one is';
COMMENT ON COLUMN audit_log.tenant IS 'Tenant concerned, if one is';
COMMENT ON COLUMN audit_log.detail IS 'The particulars: old and new values, reason';
CREATE INDEX audit_log_tenant ON audit_log (tenant, entry);
CREATE INDEX audit_log_recorded_at ON audit_log USING brin (recorded_at);
