//! What serves can do its work, and nothing to the tables.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row};
use tollgate::{
    dev::Postgres,
    ledger::{Ledger, LedgerError, RoleError, SchemaError, config::LedgerConfig},
};

use super::{
    isolation::is_forbidden,
    world::{AUTHOR, World, batch, catalog, event, new_tenant, run_on},
};

/// A login of the server that tests share that may act as the service, and no more.
async fn plain_login(world: &World) -> String {
    let login = format!("app_{}", uuid::Uuid::new_v4().simple());
    let make = format!("CREATE ROLE {login} LOGIN NOINHERIT; GRANT tollgate_service TO {login}");
    world.database.pool().await.execute(AssertSqlSafe(make)).await.unwrap();
    world.database.url_as(&login)
}

async fn in_role(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("SET ROLE tollgate_service").await.unwrap();
    connection
}

#[tokio::test]
async fn the_service_changes_no_structure_and_gets_no_further_rights() {
    let world = World::new().await;
    world.flush(world.run().await, 0, &[event("t0", 3)]).await;
    let mut connection = in_role(&plain_login(&world).await).await;
    let tables = sqlx::query(
        "SELECT relname::text AS name FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')",
    );
    let tables = tables.fetch_all(&mut connection).await.unwrap();
    assert!(tables.len() > 40);
    let mut statements: Vec<String> = [
        "CREATE TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION make_partition(parent text, day date) RETURNS void \
         LANGUAGE sql AS ''",
        "ALTER FUNCTION make_partition RESET search_path",
        "SELECT protect_table('tenants', 'TRUNCATE')",
        "CREATE ROLE mine",
        "ALTER ROLE tollgate_service BYPASSRLS",
        "ALTER ROLE tollgate_service SUPERUSER",
        "SET ROLE tollgate",
        "SET SESSION AUTHORIZATION tollgate",
        "SET session_replication_role = replica",
        "DROP OWNED BY tollgate",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        // What is append-only.
        "DELETE FROM audit_log",
        "UPDATE audit_log SET actor = ''",
        "DELETE FROM charges",
        "UPDATE charges SET amount_minor = 0",
        "UPDATE subscription_history SET actor = ''",
        "UPDATE plan_versions SET definition = '{}'",
        "DELETE FROM tokens",
        "DELETE FROM window_totals",
    ]
    .map(str::to_owned)
    .into();
    for table in tables {
        let name: String = table.get("name");
        statements.extend([
            format!("TRUNCATE {name}"),
            format!("DROP TABLE {name}"),
            format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"),
            format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"),
            format!("ALTER TABLE {name} OWNER TO tollgate_service"),
            format!("ALTER TABLE {name} ADD COLUMN mine text"),
            format!("CREATE POLICY mine ON {name}"),
            format!("CREATE INDEX ON {name} ((1))"),
        ]);
    }
    for statement in statements {
        let done = connection.execute(AssertSqlSafe(statement.clone())).await;
        assert!(is_forbidden(&done), "{statement}: {done:?}");
    }
}

#[tokio::test]
async fn only_partitions_that_may_be_needed_are_made_and_only_empty_ones_dropped() {
    let world = World::new().await;
    let mut kept = event("t1", 1);
    kept.event_retention_days = 30;
    world.flush(world.run().await, 0, &[kept]).await;
    let owner = world.database.pool().await;
    let past = "CREATE TABLE usage_events_2020_01_01 PARTITION OF usage_events
            FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00');
        INSERT INTO usage_events SELECT tenant, meter, subject, label, event_at, amount,
            distinct_value, idempotency_key, properties, run, journal_position,
            '2020-01-01 10:00:00+00', keep_until FROM usage_events";
    owner.execute(past).await.unwrap();
    let mut connection = in_role(&plain_login(&world).await).await;
    for refused in [
        "SELECT make_partition('tenants', '2026-01-01')",
        "SELECT make_partition('usage_hourly', '2100-01-01')",
        "SELECT make_partition('usage_daily', '1969-12-31')",
        "SELECT make_partition('usage_events', current_date + 30)",
        "SELECT drop_empty_event_partition('tenants')",
        "SELECT drop_empty_event_partition('usage_events')",
        "SELECT drop_empty_event_partition(to_char(now(), '\"usage_events_\"YYYY_MM_DD'))",
    ] {
        let error = connection.execute(refused).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("22023"), "{refused}: {error}");
    }
    let drop = "SELECT drop_empty_event_partition('usage_events_2020_01_01') AS dropped";
    let dropped = async |connection: &mut PgConnection| {
        connection.fetch_one(drop).await.unwrap().get::<bool, _>("dropped")
    };
    assert!(!dropped(&mut connection).await, "it holds an event");
    owner.execute("DELETE FROM usage_events WHERE received_at < '2020-01-02'").await.unwrap();
    assert!(dropped(&mut connection).await);
    assert!(!dropped(&mut connection).await, "it is gone");
}

/// Does what sidecars, workers and the operator's tools do that needs more than rows.
async fn works(ledger: &Ledger) {
    ledger.check_schema().await.unwrap();
    ledger.apply_catalog(&catalog("1", &[("basic", "1")]), AUTHOR).await.unwrap();
    let _ = ledger.create_tenants(&[new_tenant("t0")], AUTHOR).await;
    let run = run_on(ledger).await;
    let mut kept = event("t0", 1);
    kept.event_retention_days = 30;
    ledger.flush(&batch(run, 0, &[kept])).await.unwrap();
    ledger.drop_empty_event_partitions().await.unwrap();
    ledger.listen_changes().await.unwrap();
}

fn ledger(postgres: &Postgres, user: &str) -> Ledger {
    Ledger::new(&LedgerConfig::at(postgres.url_as(user, "owned"))).unwrap()
}

fn refused(result: Result<(), LedgerError>) -> (RoleError, String) {
    match result.unwrap_err() {
        LedgerError::Schema(SchemaError::Role(role)) => (role, role.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_no_superuser_and_who_may_only_act_as_the_service_can_both_run_it() {
    let postgres = tokio::task::spawn_blocking(Postgres::scratch).await.unwrap().unwrap();
    let admin = PgPool::connect(&postgres.url("postgres")).await.unwrap();
    admin.execute("CREATE ROLE landlord LOGIN; CREATE ROLE app LOGIN NOINHERIT").await.unwrap();
    admin.execute("CREATE DATABASE owned OWNER landlord").await.unwrap();
    let (owner, app) = (ledger(&postgres, "landlord"), ledger(&postgres, "app"));

    // Before the roles are there.
    let (role, told) = refused(owner.check_schema().await);
    assert!(role == RoleError::Missing && told.contains("tollgate migrate"), "{told}");
    let told = owner.migrate().await.unwrap_err().to_string();
    assert!(told.contains("may not create it") && told.contains("CREATE ROLE"), "{told}");
    admin.execute("ALTER ROLE landlord CREATEROLE").await.unwrap();
    owner.migrate().await.unwrap();
    works(&owner).await;

    // Before it is a member.
    let (role, told) = refused(app.check_schema().await);
    assert!(role == RoleError::Refused, "{told}");
    assert!(told.contains("GRANT tollgate_service TO"), "{told}");
    let told = app.reach(std::time::Duration::from_secs(30)).await.unwrap_err().to_string();
    assert!(told.contains("GRANT tollgate_service TO"), "{told}");
    assert!(told.contains("refuses the connection") && !told.contains("be reached"), "{told}");
    admin.execute("GRANT tollgate_service TO app").await.unwrap();
    works(&app).await;
    let told = app.migrate().await.unwrap_err().to_string();
    assert!(told.contains("as the owner of the tables"), "{told}");
    // A worker of an earlier version is the owner, and must not take partitions for empty.
    let mut before = PgConnection::connect(&postgres.url_as("landlord", "owned")).await.unwrap();
    let day = "SELECT format('SELECT FROM %s LIMIT 1', inhrelid::regclass) AS look FROM pg_inherits
         WHERE inhparent = 'usage_events'::regclass
             AND inhrelid::regclass::text = to_char(now() AT TIME ZONE 'UTC', '\"usage_events_\"YYYY_MM_DD')";
    let look: String = before.fetch_one(day).await.unwrap().get("look");
    assert_eq!(before.fetch_all(AssertSqlSafe(look)).await.unwrap().len(), 1);
    // As itself, it may do nothing.
    let mut itself = PgConnection::connect(&postgres.url_as("app", "owned")).await.unwrap();
    assert!(is_forbidden(&itself.execute("SELECT * FROM tenants").await));

    // The owner itself sees no row but in the role.
    admin.execute("ALTER ROLE landlord NOINHERIT").await.unwrap();
    let mut itself = PgConnection::connect(&postgres.url_as("landlord", "owned")).await.unwrap();
    assert!(itself.fetch_all("SELECT * FROM tenants").await.unwrap().is_empty());
    works(&owner).await;

    // A database beside it on the same server, where nobody has migrated yet.
    admin.execute("CREATE DATABASE beside OWNER landlord").await.unwrap();
    let beside = Ledger::new(&LedgerConfig::at(postgres.url_as("landlord", "beside"))).unwrap();
    let error = beside.check_schema().await.unwrap_err();
    assert!(matches!(error, LedgerError::Schema(SchemaError::Behind(1))), "{error}");

    // A connection that is in another role, as a pooler's that drops the parameters on the way.
    admin.execute("ALTER ROLE tollgate_service RENAME TO other").await.unwrap();
    let error = owner.check_schema().await.unwrap_err();
    assert!(error.to_string().contains("act as other and not as tollgate_service"), "{error}");
    for ledger in [owner, app, beside] {
        ledger.close().await;
    }
}
