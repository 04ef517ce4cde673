//! The recorded web traffic of May 2015, each client a tenant of the *hosting* catalog, against an
//! independent sum over the same file.

use std::collections::BTreeMap;

use super::world::{World, at};

/// Bytes are taken this many times over, so that hundreds owe something and several amounts are
/// exactly half a cent.
const FACTOR: i64 = 2_000_000;

/// Plan, included GB, grace GB and cents per GB, as the published price list has them.
const PLANS: [(&str, i64, i64, i64); 4] = [
    ("starter", 100, 0, 5),
    ("professional", 500, 0, 4),
    ("business", 2_000, 5, 3),
    ("enterprise", 10_000, 20, 2),
];

fn plan_of(client: &str) -> (&'static str, i64, i64, i64) {
    let number: usize = client.trim_start_matches("client-").parse().unwrap();
    PLANS[number % PLANS.len()]
}

#[tokio::test]
async fn every_client_owes_to_the_cent_what_the_file_says() {
    let world = World::with_catalog("hosting").await;
    let text = include_str!("../../data/web-access.csv");
    let mut bytes_of: BTreeMap<&str, i64> = BTreeMap::new();
    let mut events = Vec::new();
    for line in text.lines().skip(1) {
        let [time, client, _, bytes] = line.split(',').collect::<Vec<_>>()[..] else { panic!() };
        let bytes = bytes.parse::<i64>().unwrap() * FACTOR;
        *bytes_of.entry(client).or_default() += bytes;
        events.push(world.event(client, "bandwidth", bytes, at(time)));
    }
    world.tenants(bytes_of.keys().map(|client| (*client, plan_of(client).0))).await;
    world.flush(events).await;
    world.mark("2015-06-01T00:00:01Z").await;
    world.charge("2015-06-01T02:00:00Z").await;

    let (mut owing, mut ties) = (0, 0);
    let expected: Vec<_> = bytes_of
        .iter()
        .map(|(client, bytes)| {
            let (_, included, grace, cents) = plan_of(client);
            let billable = (bytes - (included + grace) * 1_000_000_000).max(0);
            let nano_cents = i128::from(billable) * i128::from(cents);
            let minor = (nano_cents + 500_000_000) / 1_000_000_000;
            owing += i32::from(minor > 0);
            ties += i32::from(nano_cents % 1_000_000_000 == 500_000_000);
            ((*client).to_owned(), "2015-05-01".to_owned(), i64::try_from(minor).unwrap())
        })
        .collect();
    assert!(owing >= 100 && ties >= 10, "{owing} owe something, {ties} ties");
    assert_eq!(world.amounts().await, expected);
}
