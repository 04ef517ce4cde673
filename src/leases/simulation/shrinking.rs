//! A world that broke something, made smaller for as long as it still breaks the same.

use std::time::{Duration, Instant};

use super::{
    attempt::{Broken, attempt},
    plan::{Field, Plan},
};

/// Worlds that are tried for it, at most.
const TRIES_MAX: u64 = 2_000;
/// The longest that they are tried for: large ones take seconds each.
const TRYING_MAX: Duration = Duration::from_secs(60);
/// Other chances that each smaller plan gets: what happens in it is not what happened before.
const CHANCES: u64 = 4;

/// The smallest plan that was found, with the seed that breaks it.
pub(super) fn shrunk(seed: u64, plan: &Plan, broken: &Broken) -> (u64, Plan) {
    let mut best = (seed, plan.clone());
    let mut tries = 0;
    let until = Instant::now() + TRYING_MAX;
    loop {
        let before = best.1.clone();
        for field in Plan::FIELDS {
            while Instant::now() < until
                && let Some(smaller) = smaller(field, &best, broken, &mut tries)
            {
                best = smaller;
            }
        }
        if best.1 == before || tries >= TRIES_MAX || Instant::now() >= until {
            return best;
        }
    }
}

/// The same with a smaller number in one field.
fn smaller(
    field: &Field,
    best: &(u64, Plan),
    broken: &Broken,
    tries: &mut u64,
) -> Option<(u64, Plan)> {
    let now = (field.get)(&best.1);
    if now <= field.least {
        return None;
    }
    let candidates = [field.least, field.least + now.saturating_sub(field.least) / 2, now - 1];
    for number in candidates {
        let mut plan = best.1.clone();
        (field.set)(&mut plan, number);
        for chance in 0..CHANCES {
            *tries += 1;
            if *tries > TRIES_MAX {
                return None;
            }
            let seed = best.0.wrapping_add(chance);
            if attempt(seed, &plan, None).is_err_and(|other| other.is_like(broken)) {
                return Some((seed, plan));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::simulation::planted::Planted;
    #[test]
    fn a_world_that_breaks_something_is_made_smaller_until_little_is_left_of_it() {
        let planted = |seed| Plan { planted: Some(Planted::TotalsAdded), ..Plan::drawn(seed) };
        let breaks = |seed| attempt(seed, &planted(seed), None).err().map(|broken| (seed, broken));
        // How long messages take makes no world larger, and its numbers are so large as to hide the rest.
        let sizes = || Plan::FIELDS.iter().filter(|field| !field.name.contains("_us"));
        let size = |plan: &Plan| sizes().map(|field| (field.get)(plan)).sum::<u64>();
        let mut little = 0;
        for (seed, broken) in (0..100).filter_map(breaks).take(6) {
            let plan = planted(seed);
            let (seed, smallest) = shrunk(seed, &plan, &broken);
            assert!(attempt(seed, &smallest, None).is_err_and(|other| other.is_like(&broken)));
            assert!(size(&smallest) < size(&plan), "{smallest:?} of {plan:?}");
            // Some take their time to show, and need it.
            little += u32::from(size(&smallest) * 10 < size(&plan));
        }
        assert!(little >= 1, "of six none");
    }
}
