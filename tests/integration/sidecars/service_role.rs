//! Processes whose login may do nothing but act as the service: whatever they do, they do as that.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::Value;
use tollgate::proto::v1::Mode;

use super::{
    CATALOG,
    cluster::{Cluster, current_key, event},
};
use crate::fixture::get;

/// How long a process may take to come to what it is asked.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A cluster whose processes log in as somebody who has no right of its own (NOINHERIT), and the
/// login's name.
async fn of_a_plain_login() -> (Cluster, String) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    let login = format!("app_{}", uuid::Uuid::new_v4().simple());
    administer(&cluster, &format!("CREATE ROLE {login} LOGIN NOINHERIT")).await;
    cluster.world.url = cluster.world.url.replacen("tollgate@", &format!("{login}@"), 1);
    (cluster, login)
}

async fn administer(cluster: &Cluster, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&cluster.world.pool).await.unwrap();
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WAIT_MAX, "not within {WAIT_MAX:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_a_worker_and_the_operators_tools_need_no_more_than_the_service_role() {
    let (cluster, login) = of_a_plain_login().await;
    let sidecar = cluster.start_unready("a");
    wait_until("the sidecar says what is missing", || {
        cluster.logged("a").contains("GRANT tollgate_service TO")
    });
    let told = cluster.refused(&["tenant", "list"]);
    assert!(told.contains("GRANT tollgate_service TO"), "{told}");
    assert!(!told.contains("cannot be reached") && !told.contains("server runs"), "{told}");
    administer(&cluster, &format!("GRANT tollgate_service TO {login}")).await;
    sidecar.wait_until_serving(&cluster.log("a")).await;

    // A right on a table that somebody took away is told as that, and not as an outage.
    let readers = "tollgate_service, tollgate_tenant";
    administer(&cluster, &format!("REVOKE SELECT ON tenants FROM {readers}")).await;
    let told = cluster.refused(&["tenant", "list"]);
    let refused = sidecar.check(Mode::Check, "nobody", "calls", 1).await.unwrap_err();
    for told in [told.as_str(), refused.message()] {
        assert!(told.contains("permission denied for table tenants"), "{told}");
        assert!(told.contains("have the owner of the ledger's tables grant again"), "{told}");
        assert!(!told.contains("be asked now") && !told.contains("be reached"), "{told}");
    }
    administer(&cluster, &format!("GRANT SELECT ON tenants TO {readers}")).await;

    let tenant = ["--account", "acme", "--catalog", "proving", "--plan", "basic"];
    cluster.operate(&[&["tenant", "create", "acme"], &tenant[..]].concat());
    wait_until("the sidecar knows the tenant", || {
        cluster.operate(&["tenant", "list"]).contains("acme")
    });
    let consumed = sidecar.check(Mode::Consume, "acme", "calls", 5).await.unwrap();
    assert!(consumed.allowed);
    sidecar.record(vec![event("acme", "tokens", 7, "once")]).await.unwrap();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 5).await;
    let grant = ["--meter", "calls", "--amount", "10", "--reason", "thanks"];
    cluster.operate(&[&["grant", "create", "acme"], &grant[..]].concat());
    cluster.operate(&["charges", "--tenant", "acme"]);
    cluster.operate(&["token", "create", "shop"]);

    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = crate::fixture::Processes::tollgate(&["worker"]);
    command.args(["--ledger-url", &cluster.world.url, "--log-filter", "error"]);
    command.args(["--worker-http-listen", &address.to_string()]);
    let worker = cluster.processes.start(&mut command);
    wait_until("the worker is ready", || get(address, "/readyz").is_some_and(|it| it.0 == 200));
    wait_until("every job has run", || {
        let history = cluster.operate(&["job", "history", "--json"]);
        let history: Value = serde_json::from_str(&history).unwrap();
        let runs = history.as_array().unwrap();
        assert!(runs.iter().all(|run| run["status"] != "failed"), "{history:#}");
        let has_run =
            |job: &str| runs.iter().any(|run| run["job"] == job && run["status"] == "succeeded");
        ["overages", "rollover", "cleanup"].into_iter().all(has_run)
    });
    worker.stop();
    sidecar.process.stop();
}
