//! The committed query data (`.sqlx`) is what this tree's migrations make of the queries.

use std::{fs, path::Path};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, SqlSafeStr};

use crate::fixture::Database;

#[tokio::test]
async fn committed_query_data_is_not_stale() {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut checked = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let committed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let query = committed["query"].as_str().unwrap().to_owned();
        let description = connection
            .describe(sqlx::AssertSqlSafe(query.clone()).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{}: {error}\n{query}", path.display()));
        let now = serde_json::to_value(&description).unwrap();
        assert_eq!(
            committed["describe"],
            now,
            "{} is stale; run .ci/prepare-queries and commit what it changes:\n{query}",
            path.display()
        );
        checked += 1;
    }
    assert!(checked > 0);
}
