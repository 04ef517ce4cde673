//! The flush of events under keys, beside its bare statements: a backlog that a sidecar drains.

use std::time::Duration;

use tollgate::{clock::Clock, dev::Redis, proto::v1::Mode};

use super::{
    Args,
    bare::{self, Took},
    drain::{Drain, Hold, PATIENT, drain},
    family::family_cpu,
    findings::{Aim, Aimed, Part, Table, figure},
    recorder::{BATCH_EVENTS, Recording, record},
    sidecar::{Sidecar, quota},
    stage::{Stage, tenant},
};

/// Its events are kept, so that each is a row of three tables: its key, itself, and its sums.
const METER: &str = "calls";
const TENANTS: usize = 100;
const OF_BARE_MIN: f64 = 0.8;
/// How much more memory the later half of a backlog may take than the earlier.
const GROWTH_MAX: f64 = 1.1;
/// Rows that an event is by itself, besides what it adds to sums.
const ROWS_PER_EVENT: f64 = 2.0;
const HEAD: [&str; 10] = [
    "",
    "events",
    "seconds",
    "events/s",
    "rows/s",
    "sidecar CPU µs/event",
    "Postgres CPU µs/event",
    "MiB at start",
    "at peak",
    "at the end",
];

pub async fn part(stage: &Stage, args: &Args) -> anyhow::Result<Part> {
    let events = args.backlog.next_multiple_of(bare::BATCH as u64);
    eprintln!("flush under keys: {events} events by bare statements");
    let database = stage.database("bare", TENANTS).await?;
    let cpu = family_cpu(stage.postgres_pid()?)?;
    let took = bare::write(&database, METER, TENANTS, events).await?;
    let cpu = family_cpu(stage.postgres_pid()?)?.saturating_sub(cpu);
    let bare_rate = events as f64 / took.all().as_secs_f64();
    database.end().await?;

    eprintln!("flush under keys: a backlog of {events} events");
    let drained = backlog(stage, events).await?;
    let aims = vec![
        Aimed {
            what: "Flush of events under keys".into(),
            aim: Aim::AtLeast(OF_BARE_MIN, "× the bare statements'"),
            found: drained.events_per_second() / bare_rate,
        },
        Aimed {
            what: format!("Memory while {} events drain", drained.events),
            aim: Aim::AtMost(GROWTH_MAX, "later half, × earlier half,"),
            found: drained.resident.growth(),
        },
    ];
    let table = Table {
        head: HEAD.to_vec(),
        rows: vec![bare_row(events, &took, cpu), drained_row(&drained)],
    };
    Ok(Part { title: "Flush of events under keys", how: how(&took), aims, table })
}

fn how(took: &Took) -> String {
    let share = |part: Duration| figure(100.0 * part.as_secs_f64() / took.all().as_secs_f64());
    format!(
        "{TENANTS} tenants, a UUID of version 7 as key of each event, events kept: each is claimed in `usage_keys` and written to `usage_events` (two rows), and its \
         sums are added up. *Bare*: the same statements in transactions of {} events, made up ahead, by one connection; of its time {} % are `usage_keys`, {} % `usage_events`, \
         {} % sums and {} % commits. *Sidecar*: its journal is filled over the wire (batches of {BATCH_EVENTS}) while the row of its run is locked; from the unlocking to the \
         last event in the ledger. CPU of Postgres is that of all its processes. Memory is resident.",
        bare::BATCH,
        share(took.keys),
        share(took.events),
        share(took.sums),
        share(took.commit),
    )
}

fn bare_row(events: u64, took: &Took, cpu: Duration) -> Vec<String> {
    let rate = events as f64 / took.all().as_secs_f64();
    let mut row = vec![
        "bare statements".to_owned(),
        events.to_string(),
        figure(took.all().as_secs_f64()),
        figure(rate),
        figure(rate * ROWS_PER_EVENT),
        String::new(),
        figure(cpu.as_secs_f64() * 1e6 / events as f64),
    ];
    row.resize(HEAD.len(), String::new());
    row
}

fn drained_row(drained: &Drain) -> Vec<String> {
    let mib = |bytes: u64| (bytes >> 20).to_string();
    vec![
        "sidecar".to_owned(),
        drained.events.to_string(),
        figure(drained.seconds),
        figure(drained.events_per_second()),
        figure(drained.events_per_second() * ROWS_PER_EVENT),
        figure(drained.cpu_us_per_event(drained.sidecar_cpu)),
        figure(drained.cpu_us_per_event(drained.postgres_cpu)),
        mib(drained.resident.start),
        mib(drained.resident.peak),
        mib(drained.resident.end),
    ]
}

async fn backlog(stage: &Stage, events: u64) -> anyhow::Result<Drain> {
    let redis = Redis::scratch()?;
    let database = stage.database("keyed", TENANTS).await?;
    let setup = stage.sidecar(&database, &redis, "keyed", &PATIENT);
    let look = quota(Mode::Check, &tenant(0), METER);
    let sidecar = Sidecar::serving(&setup, &look, |answer| answer.allowed).await?;
    let hold = Hold::new(&database).await?;
    let times = Recording::hours_until(Clock::System.now(), 1);
    let recording = Recording { meter: METER, tenants: TENANTS as u64, is_keyed: true, times };
    let recorded = record(&sidecar.client()?, &recording, move |so_far| so_far >= events).await?;
    let drained = drain(stage, &database, &sidecar, hold, recorded).await?;
    sidecar.stop()?;
    database.end().await?;
    Ok(drained)
}
