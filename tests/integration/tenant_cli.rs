//! `tollgate tenant` and `tollgate account`, through the binary.

use serde_json::Value;

use crate::{
    catalog_cli::{on, shipped, text, try_on},
    fixture::Database,
};

async fn with_hosting() -> Database {
    let database = Database::create().await;
    on(&database, &["catalog", "apply", &shipped("hosting").display().to_string()]);
    database
}

fn create(database: &Database, arguments: &[&str]) -> String {
    let mut all = vec!["tenant", "create", "--catalog", "hosting", "--plan", "starter"];
    all.extend(arguments);
    on(database, &all)
}

fn shown(database: &Database, tenant: &str) -> Value {
    serde_json::from_str(&on(database, &["tenant", "show", tenant, "--json"])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_the_schedule_and_clock_that_it_was_created_with() {
    let database = with_hosting().await;
    create(
        &database,
        &[
            "acme",
            "--name",
            "Acme Ltd",
            "--account",
            "acme-group",
            "--zone",
            "Europe/London",
            "--anchor",
            "2015-05-01T00:00:00Z",
            "--interval",
            "yearly",
            "--test-clock",
            "2015-05-17T00:00:00Z",
        ],
    );
    let tenant = shown(&database, "acme");
    for (field, value) in [
        ("tenant", "acme"),
        ("name", "Acme Ltd"),
        ("account", "acme-group"),
        ("catalog", "hosting"),
        ("plan", "starter"),
        ("status", "active"),
        ("zone", "Europe/London"),
        ("anchor", "2015-05-01T00:00:00Z"),
        ("interval", "yearly"),
        ("started_at", "2015-05-17T00:00:00Z"),
        ("test_clock", "2015-05-17T00:00:00Z"),
    ] {
        assert_eq!(tenant[field], value, "{field}");
    }
    // The second tenant of an account lives by the account's clock.
    create(&database, &["acme-shop", "--account", "acme-group"]);
    assert_eq!(shown(&database, "acme-shop")["started_at"], "2015-05-17T00:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_listed_and_searched_page_by_page() {
    let database = with_hosting().await;
    create(&database, &["a1", "a2", "a3", "--account", "agency"]);
    create(&database, &["b1", "--name", "Bakery"]);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let mut all = vec!["tenant", "list", "--json"];
        all.extend(arguments);
        let rows: Vec<Value> = serde_json::from_str(&on(&database, &all)).unwrap();
        rows.iter().map(|row| row["tenant"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["a1", "a2", "a3", "b1"]);
    assert_eq!(ids(&["--limit", "2"]), ["a1", "a2"]);
    assert_eq!(ids(&["--limit", "2", "--after", "a2"]), ["a3", "b1"]);
    assert_eq!(ids(&["--search", "agency"]), ["a1", "a2", "a3"]);
    assert_eq!(ids(&["--search", "bakery"]), ["b1"]);
    let told = on(&database, &["tenant", "list", "--limit", "2"]);
    assert!(told.ends_with("there may be more: --after a2\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_clock_is_set_moved_and_put_back() {
    let database = with_hosting().await;
    create(&database, &["acme"]);
    let clock = |arguments: &[&str]| {
        let mut all = vec!["account", "clock", "acme"];
        all.extend(arguments);
        on(&database, &all)
    };
    assert_eq!(clock(&[]), "account acme is on the real time\n");
    let told = clock(&["--set", "2026-01-31T12:00:00Z"]);
    assert_eq!(told, "account acme is on a test clock at 2026-01-31T12:00:00Z\n");
    let told = clock(&["--advance", "1mo"]);
    assert_eq!(told, "account acme is on a test clock at 2026-02-28T12:00:00Z\n");
    assert_eq!(shown(&database, "acme")["test_clock"], "2026-02-28T12:00:00Z");

    let back = ["account", "clock", "acme", "--set", "2026-01-01T00:00:00Z"];
    let refused = try_on(&database, &back);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("move the clock forward"), "{}", text(&refused.stderr));

    assert_eq!(clock(&["--real"]), "account acme is on the real time\n");
    assert_eq!(shown(&database, "acme")["test_clock"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told_with_its_remedy_and_changes_nothing() {
    let database = with_hosting().await;
    create(&database, &["acme"]);
    let cases: &[(&[&str], &str)] = &[
        (&["tenant", "show", "nobody"], "there is no tenant nobody; `tollgate tenant list`"),
        (&["tenant", "set-plan", "nobody", "--plan", "starter"], "there is no tenant nobody"),
        (
            &["tenant", "set-plan", "acme", "--plan", "gold"],
            "the catalog hosting has no plan gold; there are business, enterprise",
        ),
        (
            &["tenant", "set-plan", "acme", "--plan", "starter", "--plan-version", "7"],
            "there is no plan \"hosting/starter version 7\"",
        ),
        (
            &["tenant", "create", "acme", "--catalog", "hosting", "--plan", "starter"],
            "there is a tenant \"acme\" already; call the new one something else",
        ),
        (
            &["tenant", "create", "new", "acme", "--catalog", "hosting", "--plan", "starter"],
            "there is a tenant \"acme\" already",
        ),
        (
            &["tenant", "create", "b", "--catalog", "shop", "--plan", "starter"],
            "there is no catalog shop; there is hosting",
        ),
        (
            &[
                "tenant",
                "create",
                "c",
                "--account",
                "acme",
                "--catalog",
                "hosting",
                "--plan",
                "starter",
                "--test-clock",
                "2026-01-01T00:00:00Z",
            ],
            "the account acme is there already and has another clock",
        ),
        (&["account", "clock", "nobody", "--real"], "no tenant has the account nobody"),
        (&["catalog", "show", "shop"], "there is no catalog shop"),
    ];
    for (arguments, expected) in cases {
        let output = try_on(&database, arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    // Arguments of a wrong shape never reach the database.
    for (arguments, expected) in [
        (&["tenant", "show", "a b"][..], "contains ' '"),
        (&["tenant", "list", "--limit", "0"], "0 is not in 1..=1000"),
        (
            &["tenant", "create", "d", "--catalog", "a", "--plan", "b", "--zone", "Mars/Olympus"],
            "\"Mars/Olympus\" is not a known time zone; use an IANA name",
        ),
    ] {
        let output = try_on(&database, arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let rows: Value = serde_json::from_str(&on(&database, &["tenant", "list", "--json"])).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_plan_again_changes_nothing_and_is_told_so() {
    let database = with_hosting().await;
    create(&database, &["acme"]);
    let again = ["tenant", "set-plan", "acme", "--plan", "starter"];
    assert_eq!(
        on(&database, &again),
        "tenant acme is on hosting/starter version 1 already: nothing changed\n"
    );
    assert_eq!(shown(&database, "acme")["history"].as_array().unwrap().len(), 1);
    on(&database, &[&again[..], &["--reset-usage"]].concat());
    assert_eq!(shown(&database, "acme")["history"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_nothing_can_match_is_told() {
    let database = with_hosting().await;
    for (arguments, says) in [
        (&["charges", "--tenant", "nobody"][..], "there is no tenant nobody"),
        (&["job", "history", "nope"], "there is no job \"nope\"; there are"),
    ] {
        let output = try_on(&database, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    assert!(on(&database, &["job", "history", "overages"]).starts_with("job "));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_in_a_catalog_file_are_told_to_be_ignored() {
    let database = Database::create().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest/catalog.yaml");
    let told = on(&database, &["catalog", "apply", file]);
    assert!(told.contains("its 16 tenants are ignored"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_is_told_undone_and_kept_in_the_history() {
    let database = with_hosting().await;
    create(&database, &["acme"]);
    let suspended = on(&database, &["tenant", "suspend", "acme", "--reason", "unpaid"]);
    assert!(suspended.contains("tenant acme is suspended, before active"), "{suspended}");
    assert_eq!(shown(&database, "acme")["status"], "suspended");
    let again = on(&database, &["tenant", "suspend", "acme"]);
    assert!(again.contains("suspended already: nothing changed"), "{again}");
    let back = on(&database, &["tenant", "reactivate", "acme"]);
    assert!(back.contains("tenant acme is active, before suspended"), "{back}");
    let refused = try_on(&database, &["tenant", "suspend", "nobody"]);
    assert!(text(&refused.stderr).contains("there is no tenant nobody"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_past_by_the_tenants_clock_is_refused_and_changes_nothing() {
    let database = with_hosting().await;
    create(&database, &["acme", "--test-clock", "2015-05-17T00:00:00Z"]);
    on(&database, &["catalog", "apply", &shipped("assistant").display().to_string()]);
    let chat = ["tenant", "create", "chat", "--catalog", "assistant", "--plan", "free"];
    on(&database, &[&chat[..], &["--test-clock", "2015-05-17T00:00:00Z"]].concat());
    let refused = |arguments: &[&str]| {
        let output = try_on(&database, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        text(&output.stderr)
    };
    let grant = ["grant", "create", "chat", "--meter", "queries", "--amount", "5"];
    let told = refused(&[&grant[..], &["--expires-at", "2015-05-16T00:00:00Z"]].concat());
    for part in ["--expires-at", "2015-05-16T00:00:00Z is past", "give an instant"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let backwards = ["--starts-at", "2015-05-20T00:00:00Z", "--expires-at", "2015-05-19T00:00:00Z"];
    let told = refused(&[&grant[..], &backwards].concat());
    assert!(told.contains("--expires-at") && told.contains("--starts-at"), "{told}");
    assert!(!on(&database, &["grant", "list", "chat"]).contains("queries"));
    // Past by the real time, and to come by the tenant's.
    on(&database, &[&grant[..], &["--expires-at", "2015-05-18T00:00:00Z"]].concat());
    let told = refused(&["grant", "create", "chat", "--meter", "queries", "--amount", "-5"]);
    assert!(told.contains("--amount") && told.contains("negative"), "{told}");

    let feature = ["feature", "override", "acme", "cdn"];
    let why = ["--reason", "pilot"];
    on(&database, &[&feature[..], &["true"], &why].concat());
    let past = ["--expires", "2015-05-16T00:00:00Z"];
    let told = refused(&[&feature[..], &["false"], &why, &past].concat());
    assert!(told.contains("--expires: 2015-05-16T00:00:00Z is past"), "{told}");
    let listed = on(&database, &["feature", "list", "acme", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let cdn = listed.as_array().unwrap().iter().find(|feature| feature["feature"] == "cdn");
    assert_eq!(cdn.unwrap()["value"], true, "the one in force stays: {listed:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_refused_leaves_no_transaction_open_behind() {
    let (database, postgres) = Database::with_server().await;
    on(&database, &["catalog", "apply", &shipped("hosting").display().to_string()]);
    create(&database, &["acme"]);
    for refused in [
        &["tenant", "show", "nobody"][..],
        &["tenant", "create", "acme", "--catalog", "hosting", "--plan", "starter"],
        &["grant", "create", "acme", "--from", "nothing"],
        &["grant", "revoke", "acme", "grant_7"],
        &["feature", "override", "nobody", "cdn", "true"],
    ] {
        assert!(!try_on(&database, refused).status.success(), "{refused:?}");
    }
    let log = std::fs::read_to_string(postgres.dir().join("postgres.log")).unwrap();
    assert!(!log.contains("open transaction"), "{log}");
}
