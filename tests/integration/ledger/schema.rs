//! The schema and the binary fit, or it is said why not.

use tollgate::ledger::{Ledger, LedgerError, SchemaError, config::LedgerConfig};

use super::world::World;

#[tokio::test]
async fn a_migrated_ledger_fits_and_migrating_again_changes_nothing() {
    let world = World::new().await;
    world.ledger.check_schema().await.unwrap();
    world.ledger.migrate().await.unwrap();
    world.ledger.check_schema().await.unwrap();
}

#[tokio::test]
async fn an_empty_database_is_told_to_be_migrated() {
    let world = World::new().await;
    let pool = world.database.pool().await;
    sqlx::query("DROP TABLE _sqlx_migrations").execute(&pool).await.unwrap();
    let error = world.ledger.check_schema().await.unwrap_err();
    assert!(matches!(error, LedgerError::Schema(SchemaError::Behind(1))), "{error}");
    assert!(error.to_string().contains("tollgate migrate"), "{error}");
}

#[tokio::test]
async fn a_migration_of_another_form_is_named_and_a_newer_one_is_no_matter() {
    let world = World::new().await;
    let pool = world.database.pool().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', true, '', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    world.ledger.check_schema().await.unwrap();
    world.ledger.migrate().await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 2")
        .execute(&pool)
        .await
        .unwrap();
    for error in [world.ledger.check_schema().await, world.ledger.migrate().await] {
        let error = error.unwrap_err();
        assert!(matches!(error, LedgerError::Schema(SchemaError::Differs(2))), "{error}");
    }
}

#[tokio::test]
async fn a_ledger_that_is_away_may_come_back() {
    let mut config = LedgerConfig::at("postgres://nobody@127.0.0.1:9/none");
    config.acquire_timeout_ms = 500;
    let ledger = Ledger::new(&config).unwrap();
    for error in [ledger.ping().await, ledger.check_schema().await, ledger.migrate().await] {
        let error = error.unwrap_err();
        assert!(error.is_passing(), "{error:?}");
    }
}

/// Every table and column says what it is.
#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let world = World::new().await;
    let silent: Vec<(String,)> = sqlx::query_as(
        "SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c
         LEFT JOIN LATERAL (
             SELECT attname, attnum FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             UNION ALL SELECT NULL, 0
         ) a ON true
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND NOT c.relispartition AND c.relname <> '_sqlx_migrations'
             AND col_description(c.oid, coalesce(nullif(a.attnum, 0), 0)) IS NULL
             AND (a.attnum > 0 OR obj_description(c.oid, 'pg_class') IS NULL)",
    )
    .fetch_all(&world.database.pool().await)
    .await
    .unwrap();
    assert!(silent.is_empty(), "{silent:?}");
}
