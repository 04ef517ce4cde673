//! What the operator's own comparison says of the stage.

use serde_json::Value;
use tokio::task::block_in_place;

use super::stage::Stage;
use crate::fixture::Processes;

/// How long it looks at what moves, seconds.
const WAIT: &str = "60";

/// What `tollgate reconcile` finds, with the journals of all sidecars: nothing, at quiet.
pub fn differences(stage: &Stage) -> Vec<String> {
    let mut command = Processes::tollgate(&["reconcile", "--json", "--wait", WAIT]);
    command.env("TOLLGATE_LEDGER_URL", &stage.world.url);
    command.env("TOLLGATE_REDIS_URL", stage.redis_url());
    for sidecar in &stage.sidecars {
        command.arg("--journal").arg(stage.dir().join(&sidecar.program.name));
    }
    let output = block_in_place(|| command.output()).unwrap();
    let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
        let told = String::from_utf8_lossy(&output.stderr);
        return vec![format!("reconcile could not look: {}: {told}", output.status)];
    };
    let rows = report["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let mut found: Vec<_> = rows.iter().map(|row| format!("reconcile: {row}")).collect();
    let is_clean = report["differences"] == 0 && report["in_flight"] == 0;
    if !output.status.success() || !is_clean || report["counters"] == 0 {
        found.push(format!("reconcile: {}: {report}", output.status));
    }
    found
}
