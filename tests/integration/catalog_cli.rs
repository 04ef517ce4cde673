//! `tollgate catalog`, through the binary.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use tollgate::ledger::{Ledger, catalogs::CatalogContent, changes::Author, config::LedgerConfig};

use crate::fixture::{Database, Processes};

pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/catalogs/{name}.yaml"))
}

fn tollgate(arguments: &[&str]) -> Output {
    Processes::tollgate(arguments).output().unwrap()
}

/// Runs the binary on a database; it must succeed. Answers what it printed.
pub fn on(database: &Database, arguments: &[&str]) -> String {
    let output = try_on(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs the binary on a database.
pub fn try_on(database: &Database, arguments: &[&str]) -> Output {
    let mut command = Processes::tollgate(arguments);
    command.env("TOLLGATE_LEDGER_URL", &database.url).env("TOLLGATE_ACTOR", "tester");
    command.output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A copy of a shipped catalog with pieces of its text replaced.
pub fn edited(dir: &Path, name: &str, edits: &[(&str, &str)]) -> PathBuf {
    let mut catalog = std::fs::read_to_string(shipped(name)).unwrap();
    for (piece, replacement) in edits {
        assert!(catalog.contains(piece), "{piece:?} is not in {name}");
        catalog = catalog.replacen(piece, replacement, 1);
    }
    let path = dir.join(format!("{name}.yaml"));
    std::fs::write(&path, catalog).unwrap();
    path
}

#[test]
fn all_shipped_catalogs_are_sound() {
    let names = ["assistant", "factory", "hosting", "listings", "mailer"];
    let paths = names.map(|name| shipped(name).display().to_string());
    let mut arguments = vec!["catalog", "validate"];
    arguments.extend(paths.iter().map(String::as_str));
    let output = tollgate(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), names.len());
}

#[test]
fn a_broken_catalog_ends_with_1_and_names_each_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let edits = [("limit: 10 GB", "limit: 10 TB"), ("grace: 5 GB", "grase: 5 GB")];
    let path = edited(dir.path(), "hosting", &edits).display().to_string();
    let output = tollgate(&["catalog", "validate", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let told = text(&output.stderr);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    let catalog = std::fs::read_to_string(&path).unwrap();
    let line = catalog.lines().position(|line| line.ends_with("limit: 10 TB")).unwrap() + 1;
    let place = format!("{path}:{line}:16: plans[starter].limits.disk.limit: ");
    assert!(lines[0].starts_with(&place), "{told}");
    assert!(lines[1].ends_with("grase: is not a field here; did you mean grace?"), "{told}");
    assert_eq!(lines[2], format!("tollgate: {path} has 2 mistakes"));
}

#[test]
fn two_files_are_compared_without_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = edited(dir.path(), "hosting", &[("overage: 0.15", "overage: 0.18")]);
    let (new, old) = (path.display().to_string(), shipped("hosting").display().to_string());
    let output = tollgate(&["catalog", "diff", &new, "--against", &old]);
    assert_eq!(
        text(&output.stdout),
        "catalog hosting\nplan starter: new version; subscribers keep theirs\n  \
         ~ limits.disk.overage.rate: \"0.15\" -> \"0.18\"\n"
    );
    let output = tollgate(&["catalog", "diff", &new, "--against", &old, "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["plans"][0]["changes"][0]["after"], "0.18");
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_a_catalog_twice_changes_nothing() {
    let database = Database::create().await;
    let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
    let path = shipped("hosting").display().to_string();
    assert_eq!(
        on(&database, &["catalog", "apply", &path]),
        "catalog hosting: version 1 is in force\n  plan starter: version 1\n  \
         plan professional: version 1\n  plan business: version 1\n  plan enterprise: version 1\n"
    );
    let change = ledger.change_version().await.unwrap();
    assert_eq!(
        on(&database, &["catalog", "apply", &path]),
        "catalog hosting: no changes, version 1 is in force\n"
    );
    assert_eq!(ledger.change_version().await.unwrap(), change);
    assert_eq!(on(&database, &["catalog", "diff", &path]), "catalog hosting: no changes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_plan_is_a_new_version_and_subscribers_keep_theirs() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let old = shipped("hosting").display().to_string();
    on(&database, &["catalog", "apply", &old]);
    let create =
        |id| on(&database, &["tenant", "create", id, "--catalog", "hosting", "--plan", "starter"]);
    assert_eq!(create("early"), "tenant early is on hosting/starter version 1\n");

    let new = edited(dir.path(), "hosting", &[("limit: 10 GB", "limit: 12 GB")]);
    let new = new.display().to_string();
    assert_eq!(
        on(&database, &["catalog", "diff", &new]),
        "catalog hosting\nplan starter: new version; subscribers keep theirs\n  \
         ~ limits.disk.limit: 10000000000 -> 12000000000\n"
    );
    assert_eq!(
        on(&database, &["catalog", "apply", &new]),
        "catalog hosting: version 2 is in force\n  \
         plan starter: version 2; subscribers keep theirs\n"
    );
    assert_eq!(create("late"), "tenant late is on hosting/starter version 2\n");
    let shown = |id| -> serde_json::Value {
        serde_json::from_str(&on(&database, &["tenant", "show", id, "--json"])).unwrap()
    };
    assert_eq!(shown("early")["plan_version"], 1);
    assert_eq!(shown("late")["plan_version"], 2);

    on(&database, &["tenant", "set-plan", "early", "--plan", "starter", "--reason", "asked"]);
    let early = shown("early");
    assert_eq!(early["plan_version"], 2);
    assert_eq!(early["history"][1]["reason"], "asked");
    assert_eq!(early["history"][1]["actor"], "cli:tester");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_the_file_no_longer_names_is_retired_and_kept_by_its_subscribers() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let old = shipped("listings").display().to_string();
    on(&database, &["catalog", "apply", &old]);
    let create = ["tenant", "create", "agent", "--catalog", "listings", "--plan", "basic"];
    on(&database, &create);
    let new = edited(dir.path(), "listings", &[("name: basic", "name: small")]);
    let told = on(&database, &["catalog", "apply", &new.display().to_string()]);
    assert_eq!(
        told,
        "catalog listings: version 2 is in force\n  plan small: version 1\n  \
         plan basic: retired; subscribers keep it\n"
    );
    let shown = on(&database, &["tenant", "show", "agent"]);
    assert!(shown.contains("plan          listings/basic\n"), "{shown}");
    let refused = try_on(
        &database,
        &["tenant", "create", "other", "--catalog", "listings", "--plan", "basic"],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("listings/basic"), "{}", text(&refused.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_would_mean_something_else_is_refused_even_after_it_was_away() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let meter = "  - name: requests\n    title: Requests\n    kind: counter\n";
    let other = "  - name: visits\n    title: Visits\n    kind: counter\n";
    let path = shipped("hosting").display().to_string();
    on(&database, &["catalog", "apply", &path]);

    let text_of = |edit: &dyn Fn(String) -> String| {
        let path = dir.path().join("hosting.yaml");
        std::fs::write(&path, edit(std::fs::read_to_string(shipped("hosting")).unwrap())).unwrap();
        path.display().to_string()
    };
    let renamed = text_of(&|text| {
        text.replace(meter, other)
            .replace("requests: -1", "visits: -1")
            .replace("meter: requests", "meter: visits")
    });
    on(&database, &["catalog", "apply", &renamed]);
    let redefined = text_of(&|text| text.replace("aggregation: count", "aggregation: max"));
    for command in ["diff", "apply"] {
        let output = try_on(&database, &["catalog", command, &redefined]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let told = text(&output.stderr);
        assert!(
            told.contains(
                "meters[requests].aggregation: changes from count to max, though usage was counted \
                 as count; put it back to count, and add a meter of another name"
            ),
            "{told}"
        );
    }
    let shown = on(&database, &["catalog", "show", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(listed, serde_json::json!([{ "catalog": "hosting", "version": 2 }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_applied_when_one_of_the_files_is_broken() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let broken = edited(dir.path(), "mailer", &[("currency: EUR", "currency: euro")]);
    let (sound, broken) = (shipped("hosting").display().to_string(), broken.display().to_string());
    let output = try_on(&database, &["catalog", "apply", &sound, &broken]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("mailer.yaml:7:11: currency: \"euro\""));
    assert_eq!(on(&database, &["catalog", "show"]), "catalog  version\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shipped_catalogs_are_loaded_by_one_command_and_shown() {
    let database = Database::create().await;
    let names = ["assistant", "factory", "hosting", "listings", "mailer"];
    let paths = names.map(|name| shipped(name).display().to_string());
    let mut arguments = vec!["catalog", "apply"];
    arguments.extend(paths.iter().map(String::as_str));
    on(&database, &arguments);
    for (name, path) in names.iter().zip(&paths) {
        let json = on(&database, &["catalog", "show", name, "--json"]);
        let stored = serde_json::from_str(&json).unwrap();
        let stored = tollgate::domain::catalog::Catalog::from_json(&stored).unwrap();
        let written = std::fs::read_to_string(path).unwrap();
        let written = tollgate::domain::catalog::Catalog::parse(path, &written).unwrap();
        assert_eq!(stored.hash(), written.hash(), "{name}");
    }
    let shown = on(&database, &["catalog", "show", "listings"]);
    let photos = shown.lines().find(|line| line.starts_with("photos")).unwrap();
    let cells: Vec<_> = photos.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[1..], ["20 each listing", "50 each listing", "unlimited each listing"]);
    let shown = on(&database, &["catalog", "show", "hosting"]);
    assert!(shown.contains("200 + 5 grace, then 0.1 per GB"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_was_checked_against_an_older_version_is_refused() {
    let database = Database::create().await;
    let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
    let content = |hash: &str| CatalogContent {
        catalog: "shop".parse().unwrap(),
        content_hash: hash.to_owned(),
        definition: serde_json::json!({}),
        plans: Vec::new(),
    };
    let author = Author { actor: "test", reason: "" };
    ledger.apply_catalog_after(&content("a"), 0, author).await.unwrap();
    let error = ledger.apply_catalog_after(&content("b"), 0, author).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "catalog shop: has come to version 1 meanwhile; look at what that changed, then apply again"
    );
    let applied = ledger.apply_catalog_after(&content("b"), 1, author).await.unwrap();
    assert_eq!(applied.version, 2);
}
