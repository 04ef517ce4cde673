//! What each metric tells.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Name and meaning.
type Described = (&'static str, &'static str);

const COUNTERS: &[Described] = &[
    (
        "tollgate_alerts_total",
        "Usage alerts by what this process did: raised, reopened or resolved",
    ),
    (
        "tollgate_access_refused_total",
        "Calls that were not let in, by reason: no token, an unknown one, a role, a tenant, a rate",
    ),
    (
        "tollgate_access_slowed_total",
        "Messages of streams that waited, because their token sends more than it may call",
    ),
    (
        "tollgate_closings_finished_total",
        "Closings of runs that were cut off, and that this sidecar has told all counters of",
    ),
    (
        "tollgate_damaged_counters_total",
        "Times that a counter could not be told of a closing, as Redis has something else in its place",
    ),
    (
        "tollgate_embedded_keys_forgotten_total",
        "Idempotency keys forgotten before their time, for lack of room, in a sidecar without Postgres",
    ),
    (
        "tollgate_envoy_descriptors_total",
        "Descriptors of Envoy's rate limit protocol by what became of them; unmapped ones are OK",
    ),
    (
        "tollgate_epochs_begun_total",
        "Times that this sidecar found the shared counters new or without their data",
    ),
    (
        "tollgate_forfeited_units_total",
        "Units of closed runs that count against limits though no event accounts for them",
    ),
    (
        "tollgate_grpc_calls_shed_total",
        "Calls refused at once because too many waited for their answers, or were open streams of health",
    ),
    (
        "tollgate_grpc_connections_refused_total",
        "Connections closed at once because too many were open",
    ),
    (
        "tollgate_grpc_handler_panics_total",
        "Calls that ended in a defect; each was answered with INTERNAL",
    ),
    (
        "tollgate_http_handler_panics_total",
        "HTTP requests that ended in a defect; each was answered with 500",
    ),
    (
        "tollgate_journal_appends_total",
        "Records by durability and by how the append ended: kept, certainly refused, uncertain",
    ),
    ("tollgate_journal_written_bytes_total", "Bytes written to the journal"),
    (
        "tollgate_ledger_events_total",
        "Events that reached the ledger, by fate: counted or found to be duplicate",
    ),
    (
        "tollgate_ledger_quarantined_total",
        "Acknowledged events that could not be counted for their content, by reason",
    ),
    ("tollgate_ledger_retries_total", "Transactions tried again after they lost a race, by name"),
    ("tollgate_redis_calls_total", "Calls to the shared counters by kind and outcome"),
    ("tollgate_redis_connections_lost_total", "Connections to Redis that were given up"),
    ("tollgate_redis_recall_hints_total", "Hints received that another sidecar wants escrow back"),
    (
        "tollgate_tasks_died_total",
        "Tasks that ended before they were asked to; each makes the process unready",
    ),
];

const GAUGES: &[Described] = &[
    ("tollgate_access_open", "1 while whoever can reach the ports may do everything"),
    ("tollgate_access_stale", "1 while changed tokens cannot be read from the ledger"),
    ("tollgate_access_tokens", "Live tokens that this sidecar knows"),
    ("tollgate_build_info", "1, with the version that this process was built from"),
    ("tollgate_changes_stale", "1 while changed plans and tenants cannot be read from the ledger"),
    ("tollgate_condition_status", "How a readiness condition stands: 0 ok, 1 degraded, 2 failed"),
    ("tollgate_counters_live", "Counters in this sidecar's memory"),
    ("tollgate_embedded_counters", "Counters of a sidecar without Postgres"),
    ("tollgate_embedded_keys", "Idempotency keys remembered by a sidecar without Postgres"),
    ("tollgate_grpc_connections", "Open gRPC connections"),
    ("tollgate_journal_disk_bytes", "Disk taken by the journals of all runs in the directory"),
    ("tollgate_journal_queue_bytes", "Bytes that wait for the journal's writer"),
    ("tollgate_journal_queue_records", "Records that wait for the journal's writer"),
    ("tollgate_journal_segments", "Segments of this run's journal on disk"),
    ("tollgate_leftover_runs", "Earlier runs in the directory that are not closed yet"),
    ("tollgate_redis_connections", "Connections to Redis that serve calls"),
    ("tollgate_reservations_live", "Reservations that hold units"),
    ("tollgate_tenants_live", "Tenants in this sidecar's memory"),
    ("tollgate_tls_stale", "1 while the changed files of the certificate cannot be used"),
    (
        "tollgate_unfinished_closings",
        "Closings older than a minute that some shared counter was not told of, in the whole ledger",
    ),
];

const HISTOGRAMS: &[Described] = &[
    ("tollgate_journal_sync_seconds", "Time of one sync of the journal"),
    (
        "tollgate_ledger_query_seconds",
        "Time of a single query by name and outcome, the wait for a connection included",
    ),
    (
        "tollgate_ledger_transaction_seconds",
        "Time of a transaction by name and outcome, retries included",
    ),
    ("tollgate_redis_call_seconds", "Time of a call to the shared counters by kind"),
];

/// Describes the metrics of all parts that do not describe their own.
pub(super) fn describe_all() {
    COUNTERS.iter().for_each(|(name, meaning)| describe_counter!(*name, *meaning));
    GAUGES.iter().for_each(|(name, meaning)| describe_gauge!(*name, *meaning));
    HISTOGRAMS.iter().for_each(|(name, meaning)| describe_histogram!(*name, *meaning));
}
