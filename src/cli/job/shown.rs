//! How jobs and their runs are printed.

use serde_json::{Value, json};

use crate::ledger::job_runs::JobRun;

/// A run as JSON.
pub(super) fn run_json(run: &JobRun) -> Value {
    json!({
        "job": run.job,
        "scheduled_at": run.scheduled_at,
        "status": run.status.as_str(),
        "started_by": run.started_by.as_str(),
        "now": run.now_override,
        "attempt": run.attempt,
        "worker": run.worker,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "retry_at": run.retry_at,
        "error": run.error,
        "summary": run.summary,
    })
}

/// A summary on one line: `charged 12, not_closed 0`.
pub(super) fn summary_line(summary: &Value) -> String {
    let Value::Object(fields) = summary else { return summary.to_string() };
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(inner) if inner.is_empty() => "nothing".to_owned(),
        Value::Object(_) => format!("({})", summary_line(value)),
        Value::Array(items) => items.len().to_string(),
        other => other.to_string(),
    };
    let parts: Vec<_> = fields.iter().map(|(name, v)| format!("{name} {}", shown(v))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_as_one_line() {
        let summary = json!({"charged": 2, "owed": {"USD": "3.10"}, "partitions": ["a", "b"]});
        assert_eq!(summary_line(&summary), "charged 2, owed (USD 3.10), partitions 2");
        assert_eq!(summary_line(&json!({"owed": {}})), "owed nothing");
    }
}
