-- Tenants are kept apart by Postgres too: whoever reads as the role tollgate_tenant sees the rows of the one tenant that
-- the setting tollgate.tenant names, whatever the query says, and changes none. Tables that say nothing of a tenant, and
-- those that no tenant is to read (tokens), are not readable for the role at all.

-- Roles belong to the server, which may have several Tollgates, migrated at the same time.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tollgate_tenant') THEN
        CREATE ROLE tollgate_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role tollgate_tenant is missing, and % may not create it', current_user
            USING HINT = format('have an administrator run: CREATE ROLE tollgate_tenant NOLOGIN; GRANT tollgate_tenant TO %I', current_user);
END
$$;
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'tollgate_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT tollgate_tenant TO %I', current_user);
    END IF;
END
$$;
COMMENT ON ROLE tollgate_tenant IS 'Reads what is of the one tenant that the setting tollgate.tenant names';

DO $$
DECLARE
    of_tenants text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tollgate_tenant', current_schema());
    FOREACH of_tenants IN ARRAY ARRAY[
        'alerts', 'audit_log', 'charges', 'feature_overrides', 'grant_carries', 'grants', 'pool_members', 'pool_usage',
        'quarantine', 'run_totals', 'subscription_history', 'subscriptions', 'tenants', 'usage_daily', 'usage_events',
        'usage_hourly', 'usage_keys', 'window_totals'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of_tenants);
        EXECUTE format(
            'CREATE POLICY own_rows ON %I FOR SELECT TO tollgate_tenant USING (tenant = current_setting(''tollgate.tenant'', true))',
            of_tenants
        );
        EXECUTE format('GRANT SELECT ON %I TO tollgate_tenant', of_tenants);
    END LOOP;
END
$$;
