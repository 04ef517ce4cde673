//! Settings and catalogs that cannot work: told clearly, before anything is bound or written.

use std::net::TcpListener;

use super::CATALOG;
use crate::fixture::Processes;

/// How a start is spoilt, and what is told.
#[derive(Default)]
struct Spoilt {
    flags: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
    /// Of the file `settings.toml`; where there is one, `--config` names it.
    settings: Option<&'static str>,
    /// Of the file `catalog.yaml`; where there is one, `--catalog` names it.
    catalog: Option<String>,
    /// Words of the catalog; what is told names their line.
    place: Option<&'static str>,
    says: &'static [&'static str],
}

/// Nobody listens there.
const LEDGER: &str = "postgres://127.0.0.1:1/none";

fn spoilt() -> Vec<Spoilt> {
    let tenants = "tenants: [{ id: acme, plan: basic }]\n";
    let catalog = || Some(format!("{CATALOG}{tenants}"));
    vec![
        Spoilt {
            flags: &["--enforcement-recall-wait-ms", "0"],
            catalog: catalog(),
            says: &["--enforcement-recall-wait-ms", "recall_wait_ms", "(0)", "use 1 to 10000"],
            ..Default::default()
        },
        Spoilt {
            flags: &["--journal-segment-bytes", "many"],
            catalog: catalog(),
            says: &["--journal-segment-bytes", "many"],
            ..Default::default()
        },
        Spoilt {
            variable: Some(("TOLLGATE_ENFORCEMENT_RECALL_WAIT", "5")),
            catalog: catalog(),
            says: &["TOLLGATE_ENFORCEMENT_RECALL_WAIT", "did you mean enforcement.recall_wait_ms?"],
            ..Default::default()
        },
        Spoilt {
            settings: Some("[grpc]\nconnections_max = 0\n"),
            catalog: catalog(),
            says: &["settings.toml", "grpc.connections_max", "is 0", "give at least 1"],
            ..Default::default()
        },
        Spoilt {
            flags: &["--ledger-url", LEDGER],
            catalog: catalog(),
            says: &["--catalog and ledger.url are both given", "leave one of them out"],
            ..Default::default()
        },
        Spoilt {
            flags: &["--ledger-url", "mysql://127.0.0.1:1/none"],
            says: &["ledger.url", "--ledger-url", "give the database as postgres://"],
            ..Default::default()
        },
        Spoilt {
            says: &["neither ledger.url nor --catalog is given", "give --catalog FILE"],
            ..Default::default()
        },
        Spoilt {
            flags: &["--catalog", "nowhere.yaml"],
            says: &["cannot read nowhere.yaml"],
            ..Default::default()
        },
        Spoilt {
            catalog: Some(CATALOG.into()),
            says: &["names no tenants", "add a `tenants:` section"],
            ..Default::default()
        },
        Spoilt {
            catalog: Some(format!("{CATALOG}tenants: [{{ id: acme, plan: large }}]\n")),
            place: Some("plan: large"),
            says: &["tenants[acme].plan", "use one of basic"],
            ..Default::default()
        },
        Spoilt {
            catalog: Some(format!("{}{tenants}", CATALOG.replace("calls: 10000", "calls: ten"))),
            place: Some("calls: ten"),
            says: &["plans[basic].limits.calls", "ten"],
            ..Default::default()
        },
        Spoilt {
            catalog: Some("catalog: [".into()),
            says: &["catalog.yaml:1:"],
            ..Default::default()
        },
    ]
}

#[test]
fn a_start_that_cannot_work_is_refused_before_a_port_is_bound() {
    // Were it bound first, the complaint would be about this port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).unwrap();
    for case in spoilt() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut command = Processes::tollgate(&["sidecar"]);
        command
            .current_dir(dir.path())
            .args(["--grpc-listen", &taken.0, "--http-listen", &taken.0])
            .args(["--journal-data-dir".as_ref(), path("data").as_os_str()])
            .args(case.flags);
        if let Some((name, value)) = case.variable {
            command.env(name, value);
        }
        if let Some(settings) = case.settings {
            std::fs::write(path("settings.toml"), settings).unwrap();
            command.args(["--config", "settings.toml"]);
        }
        if let Some(catalog) = &case.catalog {
            std::fs::write(path("catalog.yaml"), catalog).unwrap();
            command.args(["--catalog", "catalog.yaml"]);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "started with {:?}", case.flags);
        if let Some((place, catalog)) = case.place.zip(case.catalog) {
            let line = catalog.lines().position(|line| line.contains(place)).unwrap() + 1;
            assert!(told.contains(&format!("catalog.yaml:{line}:")), "not line {line}:\n{told}");
        }
        for words in case.says {
            assert!(told.contains(words), "no {words:?} in:\n{told}");
        }
        assert!(!told.contains("cannot listen"), "{told}");
        assert!(!path("data").exists(), "wrote something, and then said:\n{told}");
    }
}
