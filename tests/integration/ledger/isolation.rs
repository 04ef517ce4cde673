//! Postgres keeps tenants apart by itself, whatever a query asks for.

use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Row};
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

/// The tables that are no partitions; whether they have a column named tenant.
async fn tables(pool: &PgPool) -> Vec<(String, bool)> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, EXISTS (
             SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant'
         ) AS of_tenants
         FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND NOT c.relispartition
         ORDER BY 1",
    );
    let rows = rows.fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (row.get("name"), row.get("of_tenants"))).collect()
}

async fn be(connection: &mut PgConnection, tenant: Option<&str>) {
    let role = if tenant.is_some() { "tollgate_tenant" } else { "none" };
    sqlx::query("SELECT set_config('role', $1, false), set_config('tollgate.tenant', $2, false)")
        .bind(role)
        .bind(tenant.unwrap_or_default())
        .execute(connection)
        .await
        .unwrap();
}

/// How many rows of `table` are `tenant`'s, and how many another's.
async fn seen(connection: &mut PgConnection, table: &str, tenant: &str) -> sqlx::Result<[i64; 2]> {
    let query = format!(
        "SELECT count(*) FILTER (WHERE tenant = $1) AS own,
             count(*) FILTER (WHERE tenant IS DISTINCT FROM $1) AS others FROM {table}"
    );
    let row = sqlx::query(AssertSqlSafe(query)).bind(tenant).fetch_one(connection).await?;
    Ok([row.get("own"), row.get("others")])
}

fn is_forbidden<T: std::fmt::Debug>(result: sqlx::Result<T>) -> bool {
    let error = result.unwrap_err();
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42501")
}

#[tokio::test]
async fn a_tenant_reaches_no_row_of_another_through_any_table() {
    let (_world, pool) = world().await;
    let mut connection = pool.acquire().await.unwrap();
    for (table, of_tenants) in tables(&pool).await {
        if !of_tenants || table == "tokens" {
            be(&mut connection, Some("t0")).await;
            let all = AssertSqlSafe(format!("SELECT * FROM {table}"));
            assert!(is_forbidden(connection.execute(all).await), "{table} can be read");
            continue;
        }
        be(&mut connection, None).await;
        let [own, others] = seen(&mut connection, &table, "t0").await.unwrap();
        assert!(own > 0 && others > 0, "the test has no rows of both in {table}");
        be(&mut connection, Some("t0")).await;
        assert_eq!(seen(&mut connection, &table, "t0").await.unwrap(), [own, 0], "{table}");
        for change in [
            format!("DELETE FROM {table}"),
            format!("UPDATE {table} SET tenant = 't0'"),
            format!("INSERT INTO {table} (tenant) VALUES ('t0')"),
            format!("TRUNCATE {table}"),
        ] {
            let changed = connection.execute(AssertSqlSafe(change.clone())).await;
            assert!(is_forbidden(changed), "{change}");
        }
        be(&mut connection, Some("")).await;
        assert_eq!(seen(&mut connection, &table, "t0").await.unwrap(), [0, 0], "{table}");
    }
}

#[tokio::test]
async fn partitions_are_no_way_around() {
    let (_world, pool) = world().await;
    let partitions: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(partitions.len() > 16);
    let mut connection = pool.acquire().await.unwrap();
    be(&mut connection, Some("t0")).await;
    for partition in partitions {
        let all = AssertSqlSafe(format!("SELECT * FROM {partition}"));
        assert!(is_forbidden(connection.execute(all).await), "{partition} can be read");
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
