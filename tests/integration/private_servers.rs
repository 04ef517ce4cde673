//! The servers that tests and `tollgate dev` stand on.

use sqlx::{Connection, PgConnection};
use tollgate::dev::Postgres;

use crate::fixture::{Fixture, Processes};

#[tokio::test]
async fn two_tests_see_databases_and_redis_of_their_own() {
    let (one, other) = (Fixture::start().await, Fixture::start().await);
    for world in [&one, &other] {
        let pool = world.database.pool().await;
        sqlx::query("CREATE TABLE mine (id int)").execute(&pool).await.unwrap();
        assert!(world.dir().is_dir());
        let mut version = Processes::tollgate(&["--version"]);
        let mut process = world.processes.start(version.current_dir(world.dir()));
        assert!(process.child.wait().unwrap().success());
    }
    let redis = |world: &Fixture| redis::Client::open(world.redis.url()).unwrap();
    let mut one = redis(&one).get_multiplexed_async_connection().await.unwrap();
    let mut other = redis(&other).get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SET").arg("key").arg(1).query_async(&mut one).await.unwrap();
    let seen: Option<i64> = redis::cmd("GET").arg("key").query_async(&mut other).await.unwrap();
    assert_eq!(seen, None);
}

#[tokio::test]
async fn a_committed_row_survives_a_killed_postgres() {
    let mut postgres = tokio::task::spawn_blocking(Postgres::scratch).await.unwrap().unwrap();
    let url = postgres.url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 7 AS seven").execute(&mut connection).await.unwrap();
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.kill().unwrap();
        postgres.start_again().unwrap();
        postgres
    })
    .await
    .unwrap();
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let seven: i32 =
        sqlx::query_scalar("SELECT seven FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(seven, 7);
    drop(connection);
    tokio::task::spawn_blocking(move || drop(postgres)).await.unwrap();
}
