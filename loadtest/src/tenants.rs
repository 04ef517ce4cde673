//! The tenants that are called, and whose turn it is.

use std::{fs, path::Path};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::Zipf;

/// Draws that are made ahead, and gone through again and again.
const DRAWS: usize = 1 << 16;
/// Zipf's exponent: the second tenant is called half as often as the first, the third a third as often.
const EXPONENT: f64 = 1.0;

/// Numbers of tenants in the order in which they are called: in turn, or drawn by Zipf's law, the same
/// ones each time.
pub fn order(tenants: usize, zipf: bool) -> Vec<usize> {
    let tenants = tenants.max(1);
    // The exponent is a constant that the distribution accepts, and there is a tenant.
    let Some(law) = zipf.then(|| Zipf::new(tenants as f64, EXPONENT).ok()).flatten() else {
        return (0..tenants).collect();
    };
    let mut rng = StdRng::seed_from_u64(1);
    // Ranks count from 1.
    (0..DRAWS).map(|_| (rng.sample(law) as usize).clamp(1, tenants) - 1).collect()
}

/// Writes the catalog at `from` to `to`, with `tenants` tenants in the place of its own: each is on the
/// plan `load`, and named `load-` and its number.
pub fn write_catalog(from: &Path, to: &Path, tenants: usize) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let (head, _) = text
        .split_once("\ntenants:\n")
        .with_context(|| format!("{} has no line `tenants:`", from.display()))?;
    let mut catalog = format!("{head}\ntenants:\n");
    for tenant in 0..tenants {
        catalog += &format!("  - {{ id: load-{tenant}, plan: load }}\n");
    }
    fs::write(to, catalog).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_called_in_turn_or_some_much_more_often_than_others() {
        assert_eq!(order(3, false), [0, 1, 2]);
        let drawn = order(10_000, true);
        let times = |tenant| drawn.iter().filter(|one| **one == tenant).count();
        assert!(drawn.iter().all(|tenant| *tenant < 10_000));
        assert!(times(0) > 3 * times(4) && times(4) > 3 * times(40), "{} {}", times(0), times(4));
        assert_eq!(drawn, order(10_000, true), "the same for all servers");
    }
}
