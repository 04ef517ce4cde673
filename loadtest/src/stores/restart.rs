//! A sidecar that is killed with a journal that nobody has flushed, and started again.

use std::time::{Duration, Instant};

use tollgate::{clock::Clock, dev::Redis, proto::v1::Mode};

use super::{
    Args,
    drain::{Hold, PATIENT},
    findings::{Aim, Aimed, Part, Table, figure},
    recorder::{BATCH_EVENTS, Recording, record},
    sidecar::{Sidecar, journal_bytes, quota},
    stage::{Database, Stage, tenant},
};

const METER: &str = "tokens";
const TENANTS: usize = 100;
/// Who has used something, and of whom nothing is in the journal that is replayed.
const SETTLED: usize = TENANTS;
/// A segment is made ahead, and lies empty behind what is recorded.
const SEGMENT_BYTES: u64 = 64 << 20;
const REPLAY_SECONDS_MAX: f64 = 10.0;
const LOOK: Duration = Duration::from_millis(50);

/// How long it took since the start.
struct Times {
    events: u64,
    bytes: u64,
    first: Duration,
    all: Duration,
    flushed: Option<Duration>,
}

pub async fn part(stage: &Stage, args: &Args) -> anyhow::Result<Part> {
    let mut aims = vec![];
    let head = vec![
        "",
        "MiB of journal",
        "events",
        "first right answer, s",
        "right answers of all tenants, s",
        "replayed MiB/s",
        "all in the ledger, s",
    ];
    let mut table = Table { head, rows: vec![] };
    for (what, is_keyed) in [("under keys", true), ("without keys", false)] {
        if !is_keyed && !args.restart_unkeyed {
            continue;
        }
        eprintln!("restart: {} MiB of journal, {what}", args.restart_mib);
        let times = restart(stage, args, is_keyed).await?;
        let mib = (times.bytes >> 20) as f64;
        table.rows.push(vec![
            what.to_owned(),
            figure(mib),
            times.events.to_string(),
            figure(times.first.as_secs_f64()),
            figure(times.all.as_secs_f64()),
            figure(mib / times.all.as_secs_f64()),
            times.flushed.map_or("not waited for".into(), |flushed| figure(flushed.as_secs_f64())),
        ]);
        aims.push(Aimed {
            what: format!("Replay of {} MiB of journal, events {what}", figure(mib)),
            aim: Aim::AtMost(REPLAY_SECONDS_MAX, "seconds"),
            found: times.all.as_secs_f64(),
        });
    }
    let how = format!(
        "{TENANTS} tenants with a hard limit; the journal is filled over the wire (batches of {BATCH_EVENTS}) while nothing is flushed, the sidecar is killed (-9) and started again. From \
         its start to the first right answer (of a tenant that the journal says nothing of), and until each tenant's usage is told in full, for which the whole \
         journal was read and Redis told of it; the flush to the ledger goes on meanwhile."
    );
    Ok(Part { title: "Restart", how, aims, table })
}

async fn restart(stage: &Stage, args: &Args, is_keyed: bool) -> anyhow::Result<Times> {
    let redis = Redis::scratch()?;
    let name = if is_keyed { "restart_keyed" } else { "restart_unkeyed" };
    let database = stage.database(name, TENANTS + 1).await?;
    let setup = stage.sidecar(&database, &redis, name, &PATIENT);
    let take = quota(Mode::Consume, &tenant(SETTLED), METER);
    let sidecar = Sidecar::serving(&setup, &take, |answer| answer.allowed).await?;
    wait_for_events(&database, 1).await?;
    let hold = Hold::new(&database).await?;
    let times = Recording::hours_until(Clock::System.now(), 1);
    let recording = Recording { meter: METER, tenants: TENANTS as u64, is_keyed, times };
    let (data_dir, wanted) = (setup.data_dir.clone(), (args.restart_mib << 20) + SEGMENT_BYTES);
    // A segment that has just gone is none that is counted.
    let is_enough = move |_| journal_bytes(&data_dir).is_ok_and(|bytes| bytes >= wanted);
    let events = record(&sidecar.client()?, &recording, is_enough).await?;
    let bytes = journal_bytes(&setup.data_dir)?.saturating_sub(SEGMENT_BYTES);
    sidecar.kill();
    hold.release().await?;

    let started = Instant::now();
    let look = |number| quota(Mode::Check, &tenant(number), METER);
    let mut sidecar = Sidecar::serving(&setup, &look(SETTLED), |answer| answer.used == 1).await?;
    let first = started.elapsed();
    let each = (events / TENANTS as u64).cast_signed();
    for number in 0..TENANTS {
        sidecar.until(&look(number), |answer| answer.used == each).await?;
    }
    let all = started.elapsed();
    let mut flushed = None;
    if args.restart_flush {
        wait_for_events(&database, events + 1).await?;
        flushed = Some(started.elapsed());
    }
    // It would flush all the rest before it stops.
    sidecar.kill();
    database.end().await?;
    Ok(Times { events, bytes, first, all, flushed })
}

async fn wait_for_events(database: &Database, events: u64) -> anyhow::Result<()> {
    while database.events().await? < events {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
