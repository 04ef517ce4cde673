//! Single values: names, ids, periods, figures, tokens, settings.

use std::{fmt, str::FromStr};

use tollgate::{
    config::load::{Given, load},
    domain::{
        catalog::{
            decimal::{Percent, Price, Rate},
            names::{OperationName, RateName, RuleName, Zone},
        },
        ids::{
            AccountId, CatalogName, FeatureName, GrantId, IdempotencyKey, MeterName, PlanName,
            PoolId, RunId, Subject, TenantId,
        },
        money::Currency,
        period::Period,
        properties::Properties,
        reservation::ReservationId,
        token::{Role, Secret, TokenHash},
        window::WindowLabel,
    },
};
use tollgate_fuzz::{Answer, Target};

/// What was read is written, and read again as the same.
fn through<T>(text: &str) -> bool
where
    T: FromStr<Err: fmt::Debug> + fmt::Display + PartialEq + fmt::Debug,
{
    let Ok(value) = text.parse::<T>() else { return false };
    let written = value.to_string();
    assert_eq!(written.parse::<T>().expect("what was written can be read"), value, "{written:?}");
    true
}

macro_rules! every {
    ($text:expr; $($value:ident)*) => { [$((stringify!($value), through::<$value>($text))),*] };
}

fn value(text: &str) -> Answer {
    let read = every!(text;
        TenantId MeterName Subject IdempotencyKey AccountId CatalogName PlanName RunId PoolId
        GrantId Period WindowLabel ReservationId Role Price Rate Percent);
    let mut names: Vec<_> = read.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let others = [
        ("feature", FeatureName::new(text).is_ok()),
        ("operation", OperationName::new(text).is_ok()),
        ("rate", RateName::new(text).is_ok()),
        ("rule", RuleName::new(text).is_ok()),
        ("zone", Zone::new(text).is_ok()),
        ("currency", Currency::new(text).is_ok()),
        ("secret", Secret::is_well_formed(text)),
        ("hash", TokenHash::try_from(text.to_owned()).is_ok()),
        ("stored", TenantId::stored(text).is_ok()),
        ("property", Properties::new([(text.to_owned(), text.to_owned())].into()).is_ok()),
    ];
    names.extend(others.iter().filter(|(_, is)| *is).map(|(name, _)| *name));
    names.join(" ")
}

#[test]
fn values_of_every_kind() {
    let seeds = [
        "acme",
        "tg_0000000000000000000000000000000000000000000000000",
        "00000000-0000-0000-0000-000000000001-ff",
        "interval_3600s",
        "billing_cycle",
        "grant_18446744073709551615",
        "pool_3",
        "pool!3!shop",
        "month:1790812800:1",
        "0.000000000000000000000001",
        "79228162514264337593543950335",
        "99.5",
        "EUR",
        "Europe/London",
        "admin",
        "MODE_CONSUME",
        "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec()).to_vec();
    let target =
        Target { name: "value", inputs: 20_000, bytes_max: 1 << 10, memory_max: (1 << 20, 64) };
    target.run(seeds, |input| value(&String::from_utf8_lossy(input)));
}

/// Settings as flags give them: a path and a text a line.
fn settings(text: &str) -> Answer {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let flags = pairs.map(|(path, value)| (path.to_owned(), value.to_owned())).collect();
    match load(&Given { flags, ..Given::default() }) {
        Ok(loaded) => format!("{} given", loaded.origins.len().min(9)),
        Err(error) => {
            assert!(!error.problems.is_empty());
            error.problems.iter().for_each(|problem| {
                assert!(!problem.invalid.field.is_empty(), "{problem:?}");
            });
            error.problems[0].invalid.field.clone()
        }
    }
}

#[test]
fn settings_of_every_part() {
    let seeds = [
        "grpc.listen=127.0.0.1:7421\ngrpc.socket_mode=0660\ngrpc.connections_max=10",
        "enforcement.durability=sync\nenforcement.recall_wait_ms=20\njournal.segment_bytes=65536",
        "ledger.url=postgres://me:secret@db:5432/tollgate\nredis.url=redis+unix:///run/r.sock",
        "access.mode=open\ntls.certificate=\nhttp.body_bytes_max=1\nlog.filter=debug,h2=off",
        "jobs.overages_schedule=0 * * * *\nworker_http.listen=[::1]:0\nhttp.head_wait_s=0",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec()).to_vec();
    let target = Target {
        name: "setting",
        inputs: 150,
        bytes_max: 4 << 10,
        memory_max: (32 << 20, 1 << 10),
    };
    target.run(seeds, |input| settings(&String::from_utf8_lossy(input)));
}
