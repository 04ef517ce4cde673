-- Whatever serves acts as the role tollgate_service, which owns nothing, changes no structure and stands under row-level
-- security like everybody else. Row-level security holds the owner as well: a later migration that reads or changes rows
-- has to do so as tollgate_service (SET LOCAL ROLE), and one that makes a table ends with protect_table.
--
-- tollgate_service        works for all tenants, by the policy across_tenants
-- tollgate_tenant         reads the rows of the tenant that the setting tollgate.tenant names, by own_rows (0014)
-- tollgate_tenant_writer  changes the rows of that tenant, by own_rows_written

-- Roles belong to the server, which may have several Tollgates, migrated at the same time.
DO $$
DECLARE
    missing text;
BEGIN
    FOREACH missing IN ARRAY ARRAY['tollgate_service', 'tollgate_tenant_writer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = missing) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', missing);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role % is missing, and % may not create it', missing, current_user
            USING HINT = format('have an administrator run: CREATE ROLE tollgate_service NOLOGIN NOINHERIT; '
                'CREATE ROLE tollgate_tenant_writer NOLOGIN NOINHERIT; '
                'GRANT tollgate_tenant, tollgate_tenant_writer TO tollgate_service; GRANT tollgate_service TO %I', current_user);
END
$$;

-- Without NOINHERIT the service would see the tenants' policies as its own. Whoever may act as the service may act as these
-- two, and needs no other grant.
DO $$
DECLARE
    -- Since Postgres 16 a member need not be allowed to take the role on.
    membership text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    wanted record;
BEGIN
    FOR wanted IN VALUES
        ('tollgate_tenant', 'tollgate_service'),
        ('tollgate_tenant_writer', 'tollgate_service'),
        ('tollgate_service', current_user::text)
    LOOP
        IF NOT pg_has_role(wanted.column2, wanted.column1, membership) THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', wanted.column1, wanted.column2);
            EXCEPTION
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION '% may not grant % to %', current_user, wanted.column1, wanted.column2
                        USING HINT = format('have an administrator run: GRANT %I TO %I', wanted.column1, wanted.column2);
            END;
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname LIKE 'tollgate\_%' AND (rolsuper OR rolbypassrls)
            AND rolname IN ('tollgate_service', 'tollgate_tenant', 'tollgate_tenant_writer')) THEN
        RAISE EXCEPTION 'a role of Tollgate is a superuser or bypasses row-level security'
            USING HINT = 'have an administrator run: ALTER ROLE ... NOSUPERUSER NOBYPASSRLS';
    END IF;
END
$$;
COMMENT ON ROLE tollgate_service IS 'Whatever of Tollgate serves: sidecars, workers and tools. Owns nothing';
COMMENT ON ROLE tollgate_tenant_writer IS 'Changes what is of the one tenant that the setting tollgate.tenant names';

CREATE FUNCTION protect_table(protected regclass, service_may text, writer_may text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', protected);
    EXECUTE format('CREATE POLICY across_tenants ON %s TO tollgate_service USING (true) WITH CHECK (true)', protected);
    EXECUTE format('GRANT %s ON %s TO tollgate_service', service_may, protected);
    IF writer_may IS NOT NULL THEN
        EXECUTE format(
            'CREATE POLICY own_rows_written ON %s TO tollgate_tenant_writer
                 USING (tenant = current_setting(''tollgate.tenant'', true))
                 WITH CHECK (tenant = current_setting(''tollgate.tenant'', true))',
            protected
        );
        EXECUTE format('GRANT %s ON %s TO tollgate_tenant_writer', writer_may, protected);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION protect_table FROM PUBLIC;
COMMENT ON FUNCTION protect_table IS 'For migrations: puts a table under row-level security, open to the service for what it may, and to who writes for one tenant';

-- What is append-only is so for the service, too.
DO $$
BEGIN
    PERFORM protect_table(name::regclass, service_may, writer_may) FROM (VALUES
        ('accounts', 'SELECT, INSERT, UPDATE', NULL),
        ('alerts', 'SELECT, INSERT, UPDATE', NULL),
        ('audit_log', 'SELECT, INSERT', 'INSERT'),
        ('catalog_versions', 'SELECT, INSERT', NULL),
        ('catalogs', 'SELECT, INSERT, UPDATE', NULL),
        ('charges', 'SELECT, INSERT', NULL),
        ('commit_sequences', 'SELECT, UPDATE', NULL),
        ('epoch_reports', 'SELECT, INSERT, UPDATE', NULL),
        ('epochs', 'SELECT, INSERT, UPDATE', NULL),
        ('feature_overrides', 'SELECT, INSERT, DELETE', 'SELECT, INSERT, DELETE'),
        ('grant_carries', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE'),
        ('grants', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE'),
        ('job_runs', 'SELECT, INSERT, UPDATE, DELETE', NULL),
        ('plan_versions', 'SELECT, INSERT', NULL),
        ('plans', 'SELECT, INSERT, UPDATE', NULL),
        ('pool_members', 'SELECT, INSERT, DELETE', NULL),
        ('pool_usage', 'SELECT, INSERT, UPDATE', NULL),
        ('pools', 'SELECT, INSERT, UPDATE', NULL),
        ('quarantine', 'SELECT, INSERT', NULL),
        ('run_totals', 'SELECT, INSERT, UPDATE', NULL),
        ('runs', 'SELECT, INSERT, UPDATE', NULL),
        ('subscription_history', 'SELECT, INSERT', 'SELECT, INSERT'),
        ('subscriptions', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE'),
        ('tenants', 'SELECT, INSERT, UPDATE', 'SELECT, UPDATE (change_version)'),
        ('tokens', 'SELECT, INSERT, UPDATE', NULL),
        ('usage_daily', 'SELECT, INSERT, UPDATE', NULL),
        ('usage_events', 'SELECT, INSERT, DELETE', NULL),
        ('usage_hourly', 'SELECT, INSERT, UPDATE', NULL),
        ('usage_keys', 'SELECT, INSERT, DELETE', NULL),
        ('window_totals', 'SELECT, INSERT, UPDATE', 'SELECT')
    ) AS tables (name, service_may, writer_may);
END
$$;

-- Who changes something of one tenant takes the number of the change.
CREATE POLICY number_of_the_change ON commit_sequences TO tollgate_tenant_writer
    USING (name = 'change') WITH CHECK (name = 'change');
GRANT SELECT, UPDATE (value) ON commit_sequences TO tollgate_tenant_writer;

-- Partitions are reached through their parents alone, but by their owner: a worker of a version before this one, which acts
-- as the owner, looks for rows in them before it drops them.
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('usage_keys'::regclass, 'usage_events'::regclass, 'usage_hourly'::regclass, 'usage_daily'::regclass)
            AND inhrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', partition);
        EXECUTE format('CREATE POLICY rows_of_the_owner ON %s TO CURRENT_USER USING (true)', partition);
    END LOOP;
END
$$;

CREATE FUNCTION make_partition(parent text, day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name text;
    first date;
    after_last date;
    today date := (now() AT TIME ZONE 'UTC')::date;
    -- Rows are updated in place while their hour lasts, and room on their page keeps that from growing the indexes.
    fill text := ' WITH (fillfactor = 80)';
BEGIN
    -- As many as there are: 130 years of rollups, and the days around the present for raw events.
    IF day NOT BETWEEN '1970-01-01' AND '2099-12-31'
        OR parent = 'usage_events' AND day NOT BETWEEN today - 1 AND today + 7 THEN
        RAISE EXCEPTION '% has no partition for %', parent, day USING ERRCODE = 'invalid_parameter_value';
    END IF;
    CASE parent
        WHEN 'usage_hourly' THEN
            first := make_date(extract(year FROM day)::integer, extract(month FROM day)::integer, 1);
            after_last := first + interval '1 month';
            name := pg_catalog.to_char(first::timestamp, '"usage_hourly_"YYYY_MM');
        WHEN 'usage_daily' THEN
            first := make_date(extract(year FROM day)::integer, 1, 1);
            after_last := first + interval '1 year';
            name := pg_catalog.to_char(first::timestamp, '"usage_daily_"YYYY');
        WHEN 'usage_events' THEN
            first := day;
            after_last := day + 1;
            name := pg_catalog.to_char(first::timestamp, '"usage_events_"YYYY_MM_DD');
            fill := '';
        ELSE
            RAISE EXCEPTION '% has no partitions by time', parent USING ERRCODE = 'invalid_parameter_value';
    END CASE;
    -- One at a time, whichever process wants it; any number that nobody else takes.
    PERFORM pg_advisory_xact_lock(127987615887988);
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Made by itself and then attached, since attaching does not lock out readers and writers.
    EXECUTE pg_catalog.format('CREATE TABLE %I (LIKE %I INCLUDING ALL)%s', name, parent, fill);
    EXECUTE pg_catalog.format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE pg_catalog.format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE pg_catalog.format('CREATE POLICY rows_of_the_owner ON %I TO CURRENT_USER USING (true)', name);
    EXECUTE pg_catalog.format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, name, first::text || ' 00:00:00+00', after_last::text || ' 00:00:00+00');
END
$$;
COMMENT ON FUNCTION make_partition IS 'Makes the partition of a rollup or of raw events that a day falls into, unless it is there';

CREATE FUNCTION drop_empty_event_partition(partition text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    is_empty boolean;
BEGIN
    IF partition !~ '^usage_events_\d{4}_\d\d_\d\d$'
        OR partition >= pg_catalog.to_char((now() AT TIME ZONE 'UTC') - interval '1 day', '"usage_events_"YYYY_MM_DD') THEN
        RAISE EXCEPTION '% is no past partition of raw events', partition USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The parent first, as whoever writes does.
    LOCK TABLE ONLY usage_events IN ACCESS EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM pg_inherits
            WHERE inhparent = 'usage_events'::regclass AND inhrelid = to_regclass(partition)) THEN
        RETURN false;
    END IF;
    -- Whoever owns it by now may have no policy, see no row, and take any partition for empty. With row_security off that is an
    -- error instead.
    EXECUTE pg_catalog.format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', partition);
    EXECUTE pg_catalog.format('SELECT NOT EXISTS (SELECT FROM %I)', partition) INTO is_empty;
    IF is_empty THEN
        EXECUTE pg_catalog.format('DROP TABLE %I', partition);
    ELSE
        EXECUTE pg_catalog.format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
    END IF;
    RETURN is_empty;
END
$$;
COMMENT ON FUNCTION drop_empty_event_partition IS 'Drops a past partition of raw events if it holds none; says whether it did';
ALTER FUNCTION drop_empty_event_partition SET row_security = off;

-- These two act as the owner: what they name is looked up where the tables are, and nowhere else, so that nobody may put
-- anything there who is not trusted with it (the default since Postgres 15).
DO $$
BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('ALTER FUNCTION make_partition SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_empty_event_partition SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tollgate_service, tollgate_tenant_writer', current_schema());
    -- What sqlx keeps of migrations; absent where they are run by another tool.
    IF to_regclass('_sqlx_migrations') IS NOT NULL THEN
        GRANT SELECT ON _sqlx_migrations TO tollgate_service;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION make_partition, drop_empty_event_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partition, drop_empty_event_partition TO tollgate_service;
