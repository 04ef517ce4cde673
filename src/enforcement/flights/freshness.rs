//! How long what was answered about a counter is good enough.

use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::{parts, time::SimulatedTime};
use crate::{
    domain::ids::RunId,
    enforcement::counter::Counter,
    leases::{
        holder::{HolderSeed, LeaseTimes},
        message::Ceiling,
    },
    store::{LocalCounters, counters::Counters, far::Way},
};

#[test]
fn only_what_others_may_change_is_asked_after_again() {
    let seed = HolderSeed { run: RunId(Uuid::nil()), times: LeaseTimes::default() };
    let (_, epoch) = watch::channel(None);
    let way = Way::new(|_| Box::pin(async { Ok(()) }));
    let mut leasing = parts::leasing(way, epoch, seed, &SimulatedTime::default());
    let (key, window) = parts::cell();
    let ceiling = Ceiling { units: Some(1), version: 1 };
    let counter = Counter::new(key, window, ceiling);
    let at = Duration::from_millis;
    assert!(!leasing.is_fresh(&counter, at(500)), "nobody has answered");
    counter.called(Some(at(500)));
    assert!(leasing.is_fresh(&counter, at(1_500)));
    assert!(!leasing.is_fresh(&counter, at(1_501)), "others may have used it since");
    leasing.counters = Counters::Local(LocalCounters::new());
    assert!(leasing.is_fresh(&counter, at(100_000)), "there are no others");
}
