//! Postgres keeps tenants apart by itself, whatever a query asks for.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row, postgres::PgRow};
use tollgate::domain::usage::UsageEvent;

use super::world::{World, event, keyed, tenant};

/// Rows of both tenants in the tables that flushes do not write.
const ROWS: &str = "
    SET session_replication_role = replica;
    INSERT INTO alerts (tenant, meter, label, subject, threshold_percent, kind, limit_units, used_units, raised_at)
        SELECT t, 'tokens', 'month:0:1', '', 80, 'approaching_limit', 10, 8, now() FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO charges (tenant, subscription, meter, label, subject, kind, period_start, charge, account, period_end,
            quantity, amount_minor, currency, catalog, plan, plan_version, explanation)
        SELECT t, gen_random_uuid(), 'tokens', 'month:0:1', '', 'overage', now(), gen_random_uuid(), 'a', now() + '1 day',
            1, 1, 'USD', 'shop', 'basic', 1, '{}' FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO feature_overrides (tenant, feature, value, reason, actor)
        SELECT t, 'chat', 'true', 'why', 'who' FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO grants (tenant, meter, kind, amount, priority, starts_at, covers_level, source, source_key, change_version)
        SELECT t, 'tokens', 'top_up', 1, 0, now(), false, '', 'key', 1 FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO grant_carries SELECT t, 1, now() FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO pool_members (tenant, meter, pool) SELECT t, 'tokens', 1 FROM unnest(ARRAY['t0', 't1']) t;
    INSERT INTO pool_usage SELECT t, 1, 'tokens', 'month:0:1', 5 FROM unnest(ARRAY['t0', 't1']) t;
    SET session_replication_role = origin;
";

async fn world() -> (World, PgPool) {
    let world = World::new().await;
    let run = world.run().await;
    let raw = |tenant: &str| UsageEvent { event_retention_days: 9, ..keyed(tenant, 5, "key") };
    let conflict = |tenant: &str| keyed(tenant, 6, "key");
    let events = ["t0", "t1"].map(|tenant| [event(tenant, 3), raw(tenant), conflict(tenant)]);
    world.flush(run, 0, events.as_flattened()).await;
    let pool = world.database.pool().await;
    sqlx::raw_sql(ROWS).execute(&pool).await.unwrap();
    (world, pool)
}

/// A table that has rows.
struct Table {
    name: String,
    has_tenants: bool,
    is_partition: bool,
    /// Row-level security is on, and holds the owner.
    is_forced: bool,
    /// The roles that a policy of it speaks of.
    roles: Vec<String>,
}

/// Whatever the catalog knows, so that nobody has to think of naming a new table here. sqlx' own
/// table of migrations says nothing of anybody.
async fn tables(pool: &PgPool) -> Vec<Table> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, c.relispartition AS is_partition,
             c.relrowsecurity AND c.relforcerowsecurity AS is_forced,
             EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant')
                 AS has_tenants,
             ARRAY(SELECT r.rolname::text FROM pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
                   WHERE p.polrelid = c.oid) AS roles
         FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'f', 'm', 'v')
             AND c.relname <> '_sqlx_migrations'
         ORDER BY 1",
    );
    let rows = rows.fetch_all(pool).await.unwrap();
    let table = |row: &PgRow| Table {
        name: row.get("name"),
        has_tenants: row.get("has_tenants"),
        is_partition: row.get("is_partition"),
        is_forced: row.get("is_forced"),
        roles: row.get("roles"),
    };
    rows.iter().map(table).collect()
}

async fn be(connection: &mut PgConnection, role: &str, tenant: &str) {
    sqlx::query("SELECT set_config('role', $1, false), set_config('tollgate.tenant', $2, false)")
        .bind(role)
        .bind(tenant)
        .execute(connection)
        .await
        .unwrap();
}

/// How many rows of `table` are t0's, and how many another's.
async fn seen(connection: &mut PgConnection, table: &str) -> sqlx::Result<[i64; 2]> {
    let query = format!(
        "SELECT count(*) FILTER (WHERE tenant = 't0') AS own,
             count(*) FILTER (WHERE tenant IS DISTINCT FROM 't0') AS others FROM {table}"
    );
    let row = sqlx::query(AssertSqlSafe(query)).fetch_one(connection).await?;
    Ok([row.get("own"), row.get("others")])
}

pub fn is_forbidden<T: std::fmt::Debug>(result: &sqlx::Result<T>) -> bool {
    let Err(error) = result else { return false };
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42501")
}

/// Runs a change and takes it back; how many rows it met.
async fn attempt(connection: &mut PgConnection, statement: &str) -> sqlx::Result<u64> {
    let mut transaction = connection.begin().await?;
    let done = transaction.execute(AssertSqlSafe(statement.to_owned())).await;
    transaction.rollback().await?;
    Ok(done?.rows_affected())
}

#[tokio::test]
async fn every_table_stands_under_row_level_security_that_holds_its_owner() {
    let (_world, pool) = world().await;
    let tables = tables(&pool).await;
    assert!(tables.iter().filter(|table| table.is_partition).count() > 16);
    for Table { name, is_forced, is_partition, roles, .. } in tables {
        assert!(is_forced, "{name} is not under row-level security: see protect_table");
        let has_policy = roles.iter().any(|role| role == "tollgate_service");
        assert_eq!(has_policy, !is_partition, "{name}: {roles:?}");
    }
}

#[tokio::test]
async fn a_tenant_reaches_no_row_of_another_through_any_table() {
    let (_world, pool) = world().await;
    let mut connection = pool.acquire().await.unwrap();
    // What t1 has, for whoever wants to write it again.
    pool.execute("CREATE SCHEMA loot; GRANT USAGE ON SCHEMA loot TO PUBLIC").await.unwrap();
    let tables = tables(&pool).await;
    for Table { name, .. } in tables.iter().filter(|table| table.has_tenants) {
        let copy = format!(
            "CREATE TABLE loot.{name} AS SELECT * FROM {name} WHERE tenant = 't1';
             GRANT SELECT ON loot.{name} TO PUBLIC"
        );
        pool.execute(AssertSqlSafe(copy)).await.unwrap();
    }
    for role in ["tollgate_tenant", "tollgate_tenant_writer"] {
        for table in &tables {
            reaches_nothing_of_others(&mut connection, role, table).await;
        }
    }
}

async fn reaches_nothing_of_others(connection: &mut PgConnection, role: &str, table: &Table) {
    let name = &table.name;
    be(connection, "none", "").await;
    let all = match table.has_tenants {
        true => seen(connection, name).await.unwrap(),
        false => [0, 0],
    };
    be(connection, role, "t0").await;
    let what = format!("{name} as {role}");
    let is_open = (table.has_tenants && name != "tokens" && !table.is_partition)
        // Who changes something of a tenant takes the number of the change.
        || (name == "commit_sequences" && role == "tollgate_tenant_writer");
    if !is_open {
        for statement in [
            format!("SELECT * FROM {name}"),
            format!("DELETE FROM {name}"),
            format!("INSERT INTO {name} DEFAULT VALUES"),
            format!("TRUNCATE {name}"),
        ] {
            let done = attempt(connection, &statement).await;
            assert!(is_forbidden(&done), "{statement} as {role}: {done:?}");
        }
        return;
    }
    if name == "commit_sequences" {
        let others =
            attempt(connection, "UPDATE commit_sequences SET value = 0 WHERE name <> 'change'");
        assert_eq!(others.await.unwrap(), 0);
        assert!(is_forbidden(&attempt(connection, "DELETE FROM commit_sequences").await));
        return;
    }
    // By reading.
    assert!(all[0] > 0 && all[1] > 0, "the test has no rows of both in {name}");
    let read = seen(connection, name).await;
    assert!(is_forbidden(&read) || read.as_ref().unwrap() == &[all[0], 0], "{what}: {read:?}");
    assert!(role == "tollgate_tenant_writer" || read.is_ok(), "{what}: {read:?}");
    // By changing what is another's, by making it one's own, and by giving away.
    let column = if name == "tenants" { "change_version" } else { "tenant" };
    for statement in [
        format!("UPDATE {name} SET {column} = {column} WHERE tenant = 't1'"),
        format!("UPDATE {name} SET tenant = 't0' WHERE tenant = 't1'"),
        format!("DELETE FROM {name} WHERE tenant = 't1'"),
    ] {
        let met = attempt(connection, &statement).await;
        assert!(
            is_forbidden(&met) || *met.as_ref().unwrap() == 0,
            "{statement} as {role}: {met:?}"
        );
    }
    for statement in [
        format!("UPDATE {name} SET tenant = 't1' WHERE tenant = 't0'"),
        format!("INSERT INTO {name} OVERRIDING SYSTEM VALUE SELECT * FROM loot.{name}"),
        format!("TRUNCATE {name}"),
    ] {
        let done = attempt(connection, &statement).await;
        assert!(is_forbidden(&done), "{statement} as {role}: {done:?}");
    }
    if role == "tollgate_tenant" {
        for statement in [format!("DELETE FROM {name}"), format!("UPDATE {name} SET tenant = 't0'")]
        {
            assert!(is_forbidden(&attempt(connection, &statement).await), "{statement}");
        }
    }
    // For no tenant, there is nothing.
    be(connection, role, "").await;
    let read = seen(connection, name).await;
    assert!(is_forbidden(&read) || read.as_ref().unwrap() == &[0, 0], "{what}: {read:?}");
}

#[tokio::test]
async fn who_writes_for_a_tenant_may_change_what_is_the_tenants_own() {
    let (_world, pool) = world().await;
    let mut connection = pool.acquire().await.unwrap();
    be(&mut connection, "tollgate_tenant_writer", "t0").await;
    for (statement, met) in [
        ("UPDATE tenants SET change_version = change_version", 1),
        ("UPDATE grants SET priority = 3", 1),
        ("UPDATE grant_carries SET carried_through = now()", 1),
        ("UPDATE subscriptions SET status = 'suspended'", 1),
        ("DELETE FROM feature_overrides", 1),
    ] {
        assert_eq!(attempt(&mut connection, statement).await.unwrap(), met, "{statement}");
    }
}

#[tokio::test]
async fn reads_for_a_tenant_leave_nothing_behind_on_the_connection() {
    let (world, _pool) = world().await;
    for name in ["t0", "t1"] {
        let windows = world.ledger.tenant_windows(&tenant(name), None, 10).await.unwrap();
        assert!(!windows.is_empty() && windows.iter().all(|one| one.key.tenant == tenant(name)));
        assert_eq!(world.ledger.alerts_of(&tenant(name), false, 10).await.unwrap().len(), 1);
        assert_eq!(world.ledger.subscription_history(&tenant(name)).await.unwrap().len(), 1);
        // As itself again.
        assert!(world.ledger.tenant(&tenant("t2")).await.unwrap().is_some());
    }
}
