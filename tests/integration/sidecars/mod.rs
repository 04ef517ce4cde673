//! Sidecars as users see them: several processes, one Redis, one Postgres.

mod access;
mod alerts;
mod alone;
mod at_once;
mod bad_input;
mod changes;
mod closed_runs;
pub mod cluster;
mod copied_directory;
mod crash;
mod emergency;
mod envoy;
mod eviction;
mod expiring_keys;
mod features;
mod grants;
mod hard_limit;
mod held_grants;
mod hosting_in_may;
mod http_calls;
mod large_amounts;
mod load;
mod metrics;
mod ofrep;
mod older_ledger;
mod operations;
mod operations_at_once;
mod outages;
mod pool_alerts;
mod pool_levels;
mod pool_members;
mod pool_resize;
mod pools;
mod rates;
mod reconcile;
mod refused_start;
mod repeats;
mod replay;
mod service_role;
mod stopping;
mod subjects;
mod tls;
mod trace;
mod unfinished_closings;
mod unread_streams;
mod values;
mod volume;
mod watch_over_http;
mod window_end;
mod without_redis;

/// A catalog with a meter of each kind.
const CATALOG: &str = r"
catalog: proving
title: Proving ground
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: quick, title: Quick calls, kind: counter, unit: call, period: interval_3s }
  - { name: steady, title: Steady calls, kind: counter, unit: call, period: interval_20s }
  - { name: tokens, title: Tokens, kind: counter, unit: token, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
  - name: visitors
    title: Visitors
    kind: counter
    aggregation: distinct_count
    distinct_property: visitor
    unit: visitor
    period: month
  - { name: upload, title: Largest upload, kind: counter, aggregation: max, unit: byte, period: month }
operations:
  - { name: work, title: Work, meters: [calls] }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits:
      calls: 10000
      quick: 1000
      steady: 1000
      tokens: { limit: 1000000, enforcement: soft }
      seats: 10
      visitors: 3
      upload: 500
";
