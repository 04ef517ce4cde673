//! `tollgate trace`: what is known of one event, and why the rest is not.

use serde_json::Value;

use super::{
    cluster::{Cluster, current_key, event},
    reconcile::CATALOG,
};

/// What the command says, stage by stage.
fn says(cluster: &Cluster, arguments: &[&str]) -> Vec<(String, String)> {
    let printed = cluster.operate(&[&["trace", "--json"], arguments].concat());
    let trace: Value = serde_json::from_str(&printed).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let step = |step: &Value| (text(&step["stage"]), text(&step["says"]));
    trace["steps"].as_array().unwrap().iter().map(step).collect()
}

/// Whether a stage says it.
fn has(said: &[(String, String)], stage: &str, what: &str) -> bool {
    said.iter().any(|(of, says)| of == stage && says.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn keyed_repeated_and_quarantined_events_are_followed_from_the_journal_on() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    first.record(vec![event("acme", "calls", 7, "once")]).await.unwrap();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 7).await;
    second.record(vec![event("acme", "calls", 7, "once")]).await.unwrap();
    first.record(vec![event("acme", "calls", 2, "twice")]).await.unwrap();
    cluster.wait_until_ledger_has(&key, 9).await;
    second.record(vec![event("acme", "calls", 3, "twice")]).await.unwrap();
    second
        .record(vec![event("acme", "upload", 44, "large"), event("acme", "calls", 1, "")])
        .await
        .unwrap();
    cluster.wait_until_ledger_has(&key, 10).await;
    let dirs = [cluster.data_dir("a"), cluster.data_dir("b")];
    let journals: Vec<_> =
        dirs.iter().flat_map(|dir| ["--journal", dir.to_str().unwrap()]).collect();
    let trace =
        |event: &str, more: &[&str]| says(&cluster, &[&[event, "--tenant", "acme"], more].concat());

    let said = trace("once", &journals);
    let journalled = said.iter().filter(|(stage, _)| stage == "journal").count();
    assert_eq!(journalled, 2, "{said:#?}");
    assert!(
        said.iter()
            .filter(|(stage, _)| stage == "flush")
            .all(|(_, says)| says.starts_with("flushed"))
    );
    assert!(has(&said, "key", "counted under \"once\": 7 of calls"), "{said:#?}");
    assert!(has(&said, "key", "is a repeat, which counts nothing"), "{said:#?}");
    assert!(has(&said, "event", "7 of acme/calls@month:"), "{said:#?}");
    assert!(
        has(&said, "rollup", "usage_hourly") && has(&said, "rollup", "usage_daily"),
        "{said:#?}"
    );
    assert!(has(&said, "window", "10 units used"), "{said:#?}");
    assert!(has(&said, "charge", "no charge"), "{said:#?}");

    let said = trace("twice", &[]);
    assert!(has(&said, "journal", "no journal was looked into"), "{said:#?}");
    assert!(has(&said, "quarantine", "key_conflict"), "{said:#?}");
    assert!(has(&said, "key", "2 of calls"), "{said:#?}");

    // Its meter keeps no raw events: only the journal knows the window.
    let said = trace("large", &[]);
    assert!(has(&said, "window", "keeps no raw events"), "{said:#?}");
    let said = trace("large", &journals);
    assert!(has(&said, "window", "window acme/upload@month:"), "{said:#?}");

    // An event without a key, by its place.
    let place: (String, i64) = sqlx::query_as(
        "SELECT run::text, journal_position FROM usage_events WHERE amount = 1 AND idempotency_key IS NULL AND tenant = 'acme'",
    )
    .fetch_one(&cluster.world.pool)
    .await
    .unwrap();
    let (run, position) =
        (place.0.replace('-', ""), tollgate::journal::position::Position::from(place.1 as u64));
    let said = says(&cluster, &[&format!("{run}@{position}")]);
    assert!(has(&said, "flush", "flushed") && has(&said, "event", "1 of acme/calls"), "{said:#?}");

    let unknown = |arguments: &[&str]| cluster.refused(&[&["trace"], arguments].concat());
    let told = unknown(&["never-sent", "--tenant", "acme"]);
    assert!(
        told.contains("no event is known under the key \"never-sent\" of tenant acme"),
        "{told}"
    );

    // Keyed events by their place, whether or not their meter keeps raw events.
    let place_of = async |key: &str| {
        let found: (String, i64) = sqlx::query_as(
            "SELECT run::text, journal_position FROM usage_keys WHERE idempotency_key = $1",
        )
        .bind(key)
        .fetch_one(&cluster.world.pool)
        .await
        .unwrap();
        let position = tollgate::journal::position::Position::from(found.1 as u64);
        (found.0.replace('-', ""), position)
    };
    let (run_of_large, large) = place_of("large").await;
    let said = says(&cluster, &[&format!("{run_of_large}@{large}")]);
    assert!(has(&said, "key", "counted under \"large\": 44 of upload"), "{said:#?}");
    assert!(has(&said, "flush", "flushed"), "{said:#?}");
    let at_large = format!("{run_of_large}@{large}");
    let said = says(&cluster, &[&[at_large.as_str()], &journals[..]].concat());
    assert!(has(&said, "window", "window acme/upload@month:"), "{said:#?}");
    assert!(has(&said, "window", "window acme/calls@month:"), "{said:#?}");
    let (run_of_once, once) = place_of("once").await;
    let said = says(&cluster, &[&format!("{run_of_once}@{once}")]);
    assert!(has(&said, "key", "counted under \"once\": 7 of calls"), "{said:#?}");
    assert!(has(&said, "window", "10 units used"), "{said:#?}");

    // Places at which nothing ends.
    let off = format!("{run_of_large}@{}:{}", large.segment, large.offset - 1);
    let told = unknown(&[&off]);
    assert!(told.contains(&format!("no event is known at {off}")), "{told}");
    assert!(told.contains("only the journal can say"), "{told}");
    let told = unknown(&[&[off.as_str()], &journals[..]].concat());
    assert!(told.contains("has no record that ends there"), "{told}");
    assert!(told.contains(&large.to_string()), "the nearest: {told}");
    let told = unknown(&[&format!("{run_of_large}@77:4")]);
    assert!(told.contains("behind the run's mark"), "{told}");
    let told = unknown(&[&format!("{}@1:480", uuid::Uuid::nil().simple())]);
    assert!(told.contains("there is no such run"), "{told}");
    assert!(cluster.refused(&["trace", "once"]).contains("--tenant"), "whose key?");
    first.process.stop();
    second.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_flushed_yet_is_found_in_the_journal_of_a_running_sidecar() {
    let mut cluster = Cluster::with_catalog("books", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    cluster.flag("--enforcement-flush-interval-ms", "60000");
    let sidecar = cluster.start("a").await;
    sidecar.record(vec![event("acme", "calls", 7, "fresh")]).await.unwrap();
    let dir = cluster.data_dir("a");
    let journal = ["--journal", dir.to_str().unwrap()];
    let said = says(&cluster, &[&["fresh", "--tenant", "acme"], &journal[..]].concat());
    assert!(has(&said, "journal", "7 of acme/calls"), "{said:#?}");
    assert!(has(&said, "flush", "not flushed yet"), "{said:#?}");
    assert!(has(&said, "key", "not in the ledger yet"), "{said:#?}");
    sidecar.process.stop();
}
