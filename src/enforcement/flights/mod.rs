//! The real driver, queue and memory of denials of one counter, with requests that come, wait, hang
//! up and give back, in the order that a seed draws: one runtime, one thread, a paused clock, and
//! local counters at the end of a way that delays, fails, and kills the driver.
//!
//! There is one run, so what can be had is known exactly at every moment. Held are:
//! - *one flight*: never two calls under way; every request is answered, whoever goes away, also
//!   when the driver dies in mid-flight; it is told that the counters are out of reach only where
//!   something failed;
//! - *no stale denial*: whoever is denied asked for more than could be had at some moment since it
//!   came; from memory, and by the answer to a call that was built before it came, that counts all
//!   that has changed here, and by the answer to a later one what that call knew;
//! - *nothing stranded*: at the end all that is left can be had, and not one unit more.
//!
//! A failure prints its seed and the fewest actors that still break it; `FLIGHT_SEED` replays one.

mod actor;
mod finding;
mod freshness;
mod parts;
mod planted;
pub(in crate::enforcement) mod time;
mod world;

use std::env;

use world::{Broken, World};

use self::{actor::Actor, planted::Planted};

/// Worlds for everyday, always the same.
const WORLDS: u64 = 2_000;
/// Seeds that have broken something once: a verdict of before the driver died was given to who came
/// after it; what was undone in flight was mixed up with what was taken in flight.
const BROKE_ONCE: [u64; 2] = [10, 125];

/// Plays the world of `seed` with only some of its actors.
fn attempt(seed: u64, actors: &[Actor], planted: Option<Planted>) -> Result<u64, Broken> {
    World::play(seed, actors, planted)
}

/// The fewest of the actors that still break the same.
fn shrunk(seed: u64, planted: Option<Planted>, broken: &Broken) -> Vec<Actor> {
    let mut actors = Actor::drawn(seed);
    let mut index = 0;
    while index < actors.len() {
        let mut fewer = actors.clone();
        fewer.remove(index);
        match attempt(seed, &fewer, planted) {
            Err(other) if other.rule == broken.rule => actors = fewer,
            _ => index += 1,
        }
    }
    actors
}

fn told(seed: u64, broken: &Broken) -> String {
    let actors = shrunk(seed, None, broken);
    let smallest = attempt(seed, &actors, None).err();
    format!(
        "{broken:?}\nwith the fewest actors: {smallest:?}\n{actors:#?}\nreplay with: FLIGHT_SEED={seed}"
    )
}

#[test]
fn one_call_at_a_time_answers_everybody_and_no_denial_is_stale() {
    let replayed = env::var("FLIGHT_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = match replayed {
        Some(seed) => vec![seed],
        None => BROKE_ONCE.into_iter().chain(0..WORLDS).collect(),
    };
    let mut repeated = 0;
    for seed in seeds {
        match attempt(seed, &Actor::drawn(seed), None) {
            Ok(from_memory) => repeated += from_memory,
            Err(broken) => panic!("{}", told(seed, &broken)),
        }
    }
    assert!(replayed.is_some() || repeated > WORLDS / 2, "{repeated} denials from memory");
}
