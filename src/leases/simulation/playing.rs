//! Plays many worlds on all cores, and tells of one that broke something: its seed, the smallest
//! plan that still breaks it, the command that replays that, and what happened in it.

use std::{
    env,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use rand::Rng;

use super::{
    attempt::{Broken, attempt},
    event::Seen,
    plan::Plan,
    shrinking::shrunk,
    trace::Trace,
};

/// Worlds of all tests together, for everyday, at least.
const WORLDS_OF_ALL: u64 = 10_000;

/// Plays worlds drawn from seeds by `draw`, `worlds` of them unless the environment asks for others,
/// for the test of that name.
pub(super) fn play(test: &str, worlds: u64, draw: fn(u64) -> Plan) -> Seen {
    let number = |name| env::var(name).ok().map(|number| number.parse().expect("a number"));
    let seed: Option<u64> = number("TOLLGATE_SEED");
    let wanted = match (number("TOLLGATE_SEEDS"), seed) {
        (Some(all), _) => (all * worlds).div_ceil(WORLDS_OF_ALL),
        (None, Some(_)) => 1,
        (None, None) => worlds,
    };
    // Everyday's worlds are always the same, so that no change is told of what another one broke.
    let first = match (seed, number("TOLLGATE_SEEDS")) {
        (Some(seed), _) => seed,
        (None, Some(_)) => rand::rng().random(),
        (None, None) => 0,
    };
    let written = env::var("TOLLGATE_PLAN").unwrap_or_default();
    let next = AtomicU64::new(0);
    let found: Mutex<(Seen, Option<(u64, Broken)>)> = Mutex::default();
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                let mut seen = Seen::default();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= wanted {
                        break;
                    }
                    let seed = first.wrapping_add(number);
                    match attempt(seed, &draw(seed).with(&written), None) {
                        Ok(one) => seen.add(&one),
                        Err(broken) => {
                            next.store(wanted, Relaxed);
                            locked(&found).1.get_or_insert((seed, broken));
                        }
                    }
                }
                locked(&found).0.add(&seen);
            });
        }
    });
    let (seen, broken) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, broken)) = broken {
        tell(test, seed, &broken, draw, &written);
    }
    eprintln!("{test}: {wanted} worlds from seed {first}: {seen:?}");
    if wanted >= worlds {
        assert!(seen.admitted > 0 && seen.refused > 0, "nothing happened: {seen:?}");
    }
    seen
}

/// Tells of a world that broke something, and fails.
fn tell(test: &str, seed: u64, broken: &Broken, draw: fn(u64) -> Plan, written: &str) -> ! {
    let command = |seed: u64, written: &str| {
        let written =
            if written.is_empty() { String::new() } else { format!(" TOLLGATE_PLAN={written}") };
        format!("TOLLGATE_SEED={seed}{written} cargo test --lib {test} -- --nocapture")
    };
    eprintln!("world {seed}: {}\nreplay with: {}", broken.said, command(seed, written));
    let plan = draw(seed).with(written);
    let (seed, smallest) = shrunk(seed, &plan, broken);
    let trace = Trace::default();
    let said = attempt(seed, &smallest, Some(trace.clone()));
    eprintln!("{trace}");
    eprintln!("{smallest:?}");
    let written = smallest.apart_from(&draw(seed));
    let said = said.map_or_else(|broken| broken.said, |_| "not broken again".to_owned());
    panic!("{said}\nreplay the smallest with: {}", command(seed, &written));
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
