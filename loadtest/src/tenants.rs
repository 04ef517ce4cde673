//! The tenants that are called, and whose turn it is.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::Zipf;

/// Draws that are made ahead, at least, and gone through again and again. Never fewer than there are
/// tenants: else most of a million would never have a turn.
const DRAWS_MIN: usize = 1 << 16;
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
    (0..DRAWS_MIN.max(tenants)).map(|_| (rng.sample(law) as usize).clamp(1, tenants) - 1).collect()
}

/// The files that a sidecar which runs alone gets its tenants from.
pub struct Files {
    pub catalog: PathBuf,
    pub tenants: PathBuf,
}

/// Writes the catalog at `from` into `directory`, with `tenants` tenants in the place of its own, half
/// of them in a file of theirs: a file is bounded, and there can be two. Each is on the plan `load`,
/// and named `load-` and its number.
pub fn write_files(from: &Path, directory: &Path, tenants: usize) -> anyhow::Result<Files> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let (head, _) = text
        .split_once("\ntenants:\n")
        .with_context(|| format!("{} has no line `tenants:`", from.display()))?;
    let name = head
        .lines()
        .find(|line| line.starts_with("catalog: "))
        .with_context(|| format!("{} has no line `catalog:`", from.display()))?;
    let half = tenants.div_ceil(2);
    let files =
        Files { catalog: directory.join("catalog.yaml"), tenants: directory.join("tenants.yaml") };
    write(&files.catalog, head, 0..half)?;
    write(&files.tenants, name, half..tenants)?;
    Ok(files)
}

fn write(file: &Path, head: &str, tenants: Range<usize>) -> anyhow::Result<()> {
    let mut text = format!("{head}\ntenants:\n");
    for tenant in tenants {
        text += &format!("  - {{ id: load-{tenant}, plan: load }}\n");
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
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

    #[test]
    fn tenants_stand_in_two_files_without_the_catalogs_own() {
        let directory = tempfile::tempdir().unwrap();
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/catalog.yaml"));
        let files = write_files(from, directory.path(), 3).unwrap();
        let ids = |file| {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains("catalog: loadtest\n"), "{text}");
            text.matches("{ id: load-").count()
        };
        assert_eq!((ids(files.catalog), ids(files.tenants)), (2, 1));
    }
}
