CREATE TABLE grants (
    tenant text NOT NULL REFERENCES tenants (tenant),
    grant_number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    meter text NOT NULL,
    subject text NOT NULL DEFAULT '',
    kind text NOT NULL
        CHECK (kind IN ('top_up', 'recurring', 'promotional', 'rollover', 'emergency')),
    amount bigint NOT NULL CHECK (amount > 0 AND amount < 9007199254740992),
    priority integer NOT NULL CHECK (priority BETWEEN 0 AND 65535),
    starts_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at >= starts_at),
    every text,
    rollover_cap bigint CHECK (rollover_cap >= 0),
    covers_level boolean NOT NULL,
    source text NOT NULL,
    source_key text NOT NULL,
    price jsonb,
    change_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (tenant, grant_number),
    UNIQUE (tenant, source_key),
    CHECK ((kind = 'recurring') = (every IS NOT NULL)),
    CHECK (kind = 'recurring' OR rollover_cap IS NULL)
);
COMMENT ON TABLE grants IS 'Extra allowance of tenants beside their plans'' limits. What is used of one is in window_totals under its label, grant_<number>:<start>:<version>';
COMMENT ON COLUMN grants.tenant IS 'Who has it';
COMMENT ON COLUMN grants.grant_number IS 'Names it, as grant_<number>; in the order of creation';
COMMENT ON COLUMN grants.meter IS 'What it allows more of';
COMMENT ON COLUMN grants.subject IS 'Only for usage of this subject; empty = for all of the tenant''s';
COMMENT ON COLUMN grants.kind IS 'How it came about: top_up, recurring, promotional, rollover or emergency';
COMMENT ON COLUMN grants.amount IS 'Base units; of a recurring grant, in each window of its period';
COMMENT ON COLUMN grants.priority IS 'Lower burns first; emergency usage burns last whatever it says';
COMMENT ON COLUMN grants.starts_at IS 'Since when, by the tenant''s clock';
COMMENT ON COLUMN grants.expires_at IS 'When what is unused lapses, by the tenant''s clock; null = never. Revoking a grant ends it there';
COMMENT ON COLUMN grants.every IS 'Period that a recurring grant is given anew in';
COMMENT ON COLUMN grants.rollover_cap IS 'Most unused units that a recurring grant carries into its next window; null = none';
COMMENT ON COLUMN grants.covers_level IS 'It is on a level meter: what it covers stays counted after its end, until the level has gone down';
COMMENT ON COLUMN grants.source IS 'Where it comes from: an operator, a grant of the catalog, a plan''s emergency rule, a window that ended';
COMMENT ON COLUMN grants.source_key IS 'Lets each grant be given once, however often it is asked for';
COMMENT ON COLUMN grants.price IS 'What it costs: one amount, or a price of what is used of it; null = free';
COMMENT ON COLUMN grants.change_version IS 'Number of the last change (commit_sequences) to the row';
COMMENT ON COLUMN grants.created_at IS 'When, real time';
COMMENT ON COLUMN grants.revoked_at IS 'When it was revoked, real time; null = it was not';

CREATE TABLE pools (
    account text NOT NULL REFERENCES accounts (account),
    pool bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    catalog text NOT NULL,
    name text NOT NULL,
    meter text NOT NULL,
    size bigint NOT NULL CHECK (size > 0 AND size < 9007199254740992),
    classes jsonb NOT NULL,
    max_members integer CHECK (max_members > 0),
    definition jsonb NOT NULL,
    zone text NOT NULL,
    anchor timestamptz NOT NULL,
    billing_interval text NOT NULL CHECK (billing_interval IN ('monthly', 'yearly')),
    change_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, pool),
    UNIQUE (account, catalog, name)
);
COMMENT ON TABLE pools IS 'Allowances that tenants of an account share. What is used of one is in window_totals under pool!<pool> for what all may use and pool!<pool>!<class> for what a class keeps back';
COMMENT ON COLUMN pools.account IS 'Whose tenants share it';
COMMENT ON COLUMN pools.pool IS 'Names it';
COMMENT ON COLUMN pools.catalog IS 'Catalog that describes it';
COMMENT ON COLUMN pools.name IS 'Its name in the catalog';
COMMENT ON COLUMN pools.meter IS 'What it is an allowance of';
COMMENT ON COLUMN pools.size IS 'Base units in each window, in all';
COMMENT ON COLUMN pools.classes IS 'Priority classes of members, the highest first, each with the base units that it keeps back from lower ones';
COMMENT ON COLUMN pools.max_members IS 'Most members; null = no bound';
COMMENT ON COLUMN pools.definition IS 'The meter and its window as a plan of its own; its limit is the cell''s share';
COMMENT ON COLUMN pools.zone IS 'IANA name of the zone of its windows';
COMMENT ON COLUMN pools.anchor IS 'Instant that its billing cycles are counted from';
COMMENT ON COLUMN pools.billing_interval IS 'Length of its billing cycle: monthly or yearly';
COMMENT ON COLUMN pools.change_version IS 'Number of the last change (commit_sequences) to the row; the version that its shares travel under';
COMMENT ON COLUMN pools.created_at IS 'When, real time';

CREATE TABLE pool_members (
    tenant text NOT NULL REFERENCES tenants (tenant),
    meter text NOT NULL,
    pool bigint NOT NULL REFERENCES pools (pool),
    class text,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, meter)
);
COMMENT ON TABLE pool_members IS 'Which tenants draw on which pool, instead of on their plan''s limit';
COMMENT ON COLUMN pool_members.tenant IS 'The member';
COMMENT ON COLUMN pool_members.meter IS 'The pool''s meter; a tenant is in one pool per meter';
COMMENT ON COLUMN pool_members.pool IS 'The pool';
COMMENT ON COLUMN pool_members.class IS 'Its priority class; null in a pool without classes';
COMMENT ON COLUMN pool_members.added_at IS 'When, real time';
CREATE INDEX pool_members_pool ON pool_members (pool);

CREATE TABLE pool_usage (
    tenant text NOT NULL,
    pool bigint NOT NULL,
    meter text NOT NULL,
    label text NOT NULL,
    used bigint NOT NULL,
    PRIMARY KEY (tenant, pool, meter, label)
);
COMMENT ON TABLE pool_usage IS 'What each member has used of a pool: together with the usage itself, in one transaction';
COMMENT ON COLUMN pool_usage.tenant IS 'The member';
COMMENT ON COLUMN pool_usage.pool IS 'The pool';
COMMENT ON COLUMN pool_usage.meter IS 'The pool''s meter';
COMMENT ON COLUMN pool_usage.label IS 'Window of the pool';
COMMENT ON COLUMN pool_usage.used IS 'Base units';
CREATE INDEX pool_usage_pool ON pool_usage (pool, label);

CREATE TABLE grant_carries (
    tenant text NOT NULL,
    grant_number bigint NOT NULL,
    carried_through timestamptz NOT NULL,
    PRIMARY KEY (tenant, grant_number)
);
COMMENT ON TABLE grant_carries IS 'How far the windows of recurring grants have been carried over';
COMMENT ON COLUMN grant_carries.tenant IS 'Who has the grant';
COMMENT ON COLUMN grant_carries.grant_number IS 'The recurring grant';
COMMENT ON COLUMN grant_carries.carried_through IS 'End of the last window whose unused part was carried over, by the tenant''s clock';

ALTER TABLE usage_hourly ADD COLUMN covered bigint NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN covered bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN usage_hourly.covered IS 'Base units of the amounts that grants and pools cover; billing goes by the rest';
COMMENT ON COLUMN usage_daily.covered IS 'Base units of the amounts that grants and pools cover; billing goes by the rest';
