//! Sidecars as users see them: several processes, one Redis, one Postgres.

mod cluster;
mod crash;
mod hard_limit;
mod outages;
mod repeats;
mod window_end;

/// A catalog with a meter of each kind.
const CATALOG: &str = r"
catalog: proving
title: Proving ground
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: quick, title: Quick calls, kind: counter, unit: call, period: interval_3s }
  - { name: tokens, title: Tokens, kind: counter, unit: token, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits:
      calls: 10000
      quick: 1000
      tokens: { limit: 1000000, enforcement: soft }
      seats: 10
";
