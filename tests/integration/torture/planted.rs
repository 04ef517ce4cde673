//! Each comparison is shown a wrong that was planted, and has to name it.

use std::{io::Write, time::Duration};

use rustix::process::Signal;
use tokio::task::block_in_place;
use tollgate::proto::v1::Durability;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    charging::charges_differ,
    clients::note_failure,
    comparison::{Books, ledger_with_itself, panics},
    operation::{Answer, Batch, Operation, Verb},
    program::Program,
    reconciling, remainder,
    settling::settle,
    stage::Stage,
    tenants,
    truth::{Book, Fate, Truth},
};
use crate::sidecars::cluster::current_key;

const WAIT: Duration = Duration::from_secs(60);

fn batch(verb: Verb, tenant: &str, meter: &'static str, amount: i64, key: &str) -> Batch {
    let (tenant, key) = (tenant.to_owned(), key.to_owned());
    let operations = vec![Operation { tenant, meter, amount, key }];
    Batch { operations, verb, durability: Durability::Sync }
}

fn assert_names(found: &[String], wrong: &str) {
    assert!(found.iter().any(|found| found.contains(wrong)), "{wrong:?} is not in {found:?}");
}

async fn carry_out(stage: &Stage, truth: &Truth, batch: Batch) {
    truth.book().begun(&batch);
    let answer = batch.send(stage.client(0, WAIT)).await.unwrap();
    assert_eq!(answer, Answer::of(Fate::Counted));
    truth.book().counted(&batch, false);
}

async fn sql(stage: &Stage, sql: &'static str) {
    let done = sqlx::raw_sql(sql).execute(&stage.world.pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_ledger_counters_and_charges_have_wrong_is_named() {
    let stage = Stage::set(1, &[("--enforcement-recall-wait-ms", "1000")]).await;
    let truth = Truth::default();
    let pool = tenants::make(&stage, &truth).await;
    stage.start_programs();
    settle(&stage, pool).await.unwrap();
    carry_out(&stage, &truth, batch(Verb::Consume, "tiny", "calls", 3, "one")).await;
    carry_out(&stage, &truth, batch(Verb::Record, "acme", "traffic", 600, "two")).await;
    settle(&stage, pool).await.unwrap();

    let books = Books::read(&stage, pool).await.unwrap();
    for (acknowledged, range) in [(4, "4..=4"), (2, "2..=2")] {
        truth.book().account("tiny", "calls").acknowledged = acknowledged;
        let found = books.ledger_differs(&truth.book());
        assert_eq!(found, [format!("tiny/calls: the ledger has 3, clients know of {range}")]);
    }
    truth.book().account("tiny", "calls").acknowledged = 3;

    // A limit of 80, passed; and a ledger that says more than all else.
    sql(
        &stage,
        "UPDATE window_totals SET used = used + 78 WHERE tenant = 'tiny' AND meter = 'calls'",
    )
    .await;
    let wrong = Books::read(&stage, pool).await.unwrap();
    let found = wrong.over_the_limit(&truth.book());
    assert_names(&found, "81 used, 0 of it after the fact, of 80");
    let found = wrong.redis_differs(&stage).await;
    assert_names(&found, "Redis has 3 and 0 forfeited, the ledger 81 and 0");
    assert_names(&ledger_with_itself(&stage).await, "tiny");
    assert_names(&reconciling::differences(&stage), "reconcile: ");
    let found = remainder::take(&stage, &truth, &wrong).await;
    assert_names(&found, "tiny/calls: nothing is left of 80, and one more is not denied");
    assert_eq!(found.len(), 1, "{found:?}");
    sql(
        &stage,
        "UPDATE window_totals SET used = used - 78 WHERE tenant = 'tiny' AND meter = 'calls'",
    )
    .await;

    // What was planted let one more be had, of which no client knows.
    truth.book().account("tiny", "calls").acknowledged += 1;
    settle(&stage, pool).await.unwrap();
    stage.programs().for_each(|program| block_in_place(|| program.stop()).unwrap());
    let books = Books::read(&stage, pool).await.unwrap();
    assert_eq!(books.ledger_differs(&truth.book()), [""; 0]);
    assert_eq!(books.over_the_limit(&truth.book()), [""; 0]);
    assert_eq!(books.redis_differs(&stage).await, [""; 0]);
    assert_eq!(books.stranded(&stage).await, [""; 0]);
    assert_eq!(ledger_with_itself(&stage).await, [""; 0]);
    assert_eq!(reconciling::differences(&stage), [""; 0]);

    let key = current_key(&stage.world, "tiny", "calls").await;
    let name = tollgate::store::keys::counter_name(&key);
    let mut redis = redis::Client::open(stage.redis_url()).unwrap().get_connection().unwrap();
    let mut add = |field: &str, units: i64| {
        let command = redis::cmd("HINCRBY").arg(&name).arg(field).arg(units).to_owned();
        let () = command.query(&mut redis).unwrap();
    };
    // What closed runs have used, and with it what is used.
    add("b", -1);
    assert_names(&books.redis_differs(&stage).await, "tiny/calls");
    assert_names(&reconciling::differences(&stage), "usage of closed runs");
    add("b", 1);
    // What is taken off the limit and not used.
    add("t", 5);
    assert_names(&books.stranded(&stage).await, "5 outstanding");
    add("t", -5);

    assert_eq!(charges_differ(&stage, &books).await, [""; 0]);
    sql(&stage, "UPDATE charges SET amount_minor = amount_minor + 1 WHERE tenant = 'acme'").await;
    assert_names(&charges_differ(&stage, &books).await, r#"("acme", "traffic", "#);
    sql(&stage, "UPDATE charges SET amount_minor = amount_minor - 1 WHERE tenant = 'acme'").await;
    sql(&stage, "UPDATE charges SET label = 'month:0:1' WHERE tenant = 'acme'").await;
    assert_names(&charges_differ(&stage, &books).await, "charged for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_program_that_ends_by_itself_and_one_that_panics_are_named() {
    let stage = Stage::set(1, &[]).await;
    let program: &Program = &stage.sidecars[0].program;
    program.start(&stage.processes);
    assert_eq!(program.ended_by_itself(), None);
    program.signal(Signal::KILL);
    let started = std::time::Instant::now();
    let ended = loop {
        match program.ended_by_itself() {
            Some(ended) => break ended,
            None => assert!(started.elapsed() < WAIT),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(ended.starts_with("sidecar-0 ended by itself with signal: 9"), "{ended}");

    assert_eq!(panics(&stage), [""; 0]);
    let mut log = std::fs::OpenOptions::new().append(true).open(&program.log).unwrap();
    writeln!(log, "thread 'tokio-rt-worker' (7) panicked at src/main.rs:1:1:").unwrap();
    assert_names(&panics(&stage), "sidecar-0: thread 'tokio-rt-worker' (7) panicked at");
    // So are those of the operator's commands.
    let told = stage.operate(&["tenant", "set-plan", "nobody", "--plan", "basic"]).unwrap_err();
    assert_eq!(std::fs::read_to_string(stage.operators_log()).unwrap(), told);
}

#[test]
fn an_answer_that_is_never_right_is_named() {
    let failed = |code: Code, reason: &str| {
        let truth = Truth::default();
        let details = ErrorDetails::with_error_info(reason, "tollgate", []);
        note_failure(&truth, &Status::with_error_details(code, "oops", details));
        std::mem::take(&mut truth.book().differences)
    };
    for (code, reason) in [
        (Code::Internal, "INTERNAL"),
        (Code::InvalidArgument, "INVALID"),
        (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT"),
    ] {
        assert_names(&failed(code, reason), "a call failed: ");
    }
    assert_eq!(failed(Code::ResourceExhausted, "OVERLOADED"), [""; 0]);
    // Broken off on its way: no sidecar has said so.
    let truth = Truth::default();
    note_failure(&truth, &Status::internal("h2 protocol error"));
    assert_eq!(truth.book().differences, [""; 0]);
}

#[test]
fn more_than_the_limit_at_one_moment_is_named_and_what_may_have_been_given_back_is_not() {
    let consume = |amount| batch(Verb::Consume, "tiny", "calls", amount, "key");
    let mut book = Book::default();
    book.account("tiny", "calls").limit = Some(10);
    book.counted(&consume(10), false);
    assert_eq!(book.differences, [""; 0]);
    let back = batch(Verb::Record, "tiny", "calls", -2, "back");
    book.begun(&back);
    book.counted(&consume(2), false);
    assert_eq!(book.differences, [""; 0]);
    // After the fact.
    book.counted(&consume(5), true);
    assert_eq!(book.differences, [""; 0]);
    book.counted(&consume(1), false);
    assert_names(&book.differences, "tiny/calls: 11 admitted at one moment, of Some(10)");
}
