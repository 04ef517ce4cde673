//! A pool that was given another size while it is in use: how much each of its cells may admit until
//! what is used fits the new shares.
//!
//! Each cell is a counter of its own, which knows nothing of the others. Cells that simply took their
//! new shares would admit too much together: in a pool of 480 in common and 120 kept back that becomes
//! 440 and 110, the 480 that are used stay, and 110 more could be had: 590 of 550.
//!
//! So a cell has a *ceiling*, what it admits up to, beside its *share* of the size `S`; and a bound is
//! known on what may be taken of it, `held`, whoever still goes by an earlier ceiling. Always
//!
//! ```text
//! for each i with ceiling_i > 0:  ceiling_i + Σ_{j≠i} max(ceiling_j, held_j) ≤ S
//! ```
//!
//! Whoever is granted anything of `i` finds `taken_i ≤ ceiling_i` and all others at
//! `taken_j ≤ max(ceiling_j, held_j)`, so that after each grant `Σ taken ≤ S`; and between grants it
//! only falls. Thus `Σ taken ≤ max(S, what it was at the change)`, at every moment.
//!
//! Once a counter has been seen to go by the ceiling in force, it can have no more than that or than
//! was taken of it then: the bounds fall as usage does, and the ceilings rise to the shares.

use serde::{Deserialize, Serialize};

/// A cell of a pool that is settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlingCell {
    /// Base units that it admits up to for now.
    pub ceiling: u64,
    /// Most base units that may be taken of it or held. No less than the ceiling.
    pub held_max: u64,
}

/// The cells of a pool whose shares become `shares`, of which no more than `held` are taken: the
/// first in order gets first what is free. Empty: the shares are in force as they are.
pub fn resized(shares: &[u64], held: &[u64]) -> Vec<SettlingCell> {
    unless_settled(shares, with_bounds(&ceilings(shares, held), held))
}

/// The cells of a settling pool, now that `taken` was seen of each under the ceilings in force;
/// `None`: nothing changes by that.
pub fn settled(shares: &[u64], cells: &[SettlingCell], taken: &[u64]) -> Option<Vec<SettlingCell>> {
    let seen = cells.iter().zip(taken);
    let held: Vec<_> = seen.map(|(cell, taken)| cell.ceiling.max(*taken)).collect();
    // Usage that was recorded after the fact can stand above what was held; a ceiling stays then.
    let risen = ceilings(shares, &held).into_iter().zip(cells);
    let risen: Vec<_> = risen.map(|(ceiling, cell)| ceiling.max(cell.ceiling)).collect();
    let changes = risen.iter().zip(cells).any(|(ceiling, cell)| *ceiling != cell.ceiling);
    let after = unless_settled(shares, with_bounds(&risen, &held));
    (changes || after.is_empty()).then_some(after)
}

fn ceilings(shares: &[u64], held: &[u64]) -> Vec<u64> {
    let size = sum(shares);
    let all_held = sum(held);
    let cells = shares.iter().zip(held);
    if all_held >= size {
        let rest = |(share, held): (&u64, &u64)| {
            (*share).min(size.saturating_sub(all_held.saturating_sub(*held)))
        };
        return cells.map(rest).collect();
    }
    let mut free = size - all_held;
    let risen = |(share, held): (&u64, &u64)| {
        let more = share.saturating_sub(*held).min(free);
        free -= more;
        (*share).min(held + more)
    };
    cells.map(risen).collect()
}

fn with_bounds(ceilings: &[u64], held: &[u64]) -> Vec<SettlingCell> {
    let cells = ceilings.iter().zip(held);
    cells.map(|(&ceiling, &held)| SettlingCell { ceiling, held_max: held.max(ceiling) }).collect()
}

/// A pool has settled when no more than the shares can be taken, and all of them.
fn unless_settled(shares: &[u64], cells: Vec<SettlingCell>) -> Vec<SettlingCell> {
    let fits = |cell: &SettlingCell, share: u64| cell.ceiling == share && cell.held_max <= share;
    let is_settled = cells.iter().zip(shares).all(|(cell, share)| fits(cell, *share));
    if is_settled { vec![] } else { cells }
}

fn sum(units: &[u64]) -> u64 {
    units.iter().fold(0, |sum, units| sum.saturating_add(*units))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(cells: &[SettlingCell]) -> Vec<(u64, u64)> {
        cells.iter().map(|cell| (cell.ceiling, cell.held_max)).collect()
    }

    #[test]
    fn what_is_over_in_one_part_comes_off_the_others_until_it_fits() {
        // What is kept back, and what is in common: 480 are used there.
        let shares = [110, 440];
        let cells = resized(&shares, &[120, 480]);
        assert_eq!(shown(&cells), [(70, 120), (430, 480)]);
        let cells = settled(&shares, &cells, &[70, 480]).unwrap();
        assert_eq!(shown(&cells), [(70, 70), (440, 480)], "550 are taken");
        assert_eq!(settled(&shares, &cells, &[70, 480]), None);
        let cells = settled(&shares, &cells, &[70, 450]).unwrap();
        assert_eq!(shown(&cells), [(100, 100), (440, 450)], "the reserve rises first");
        assert_eq!(settled(&shares, &cells, &[100, 440]), Some(vec![]));
        let gone = resized(&[0, 4], &[0, 10]);
        assert_eq!(shown(&gone), [(0, 0), (4, 10)], "nothing is left, and 10 may be taken");
        assert_eq!(resized(&[120, 480], &[110, 440]), [], "a pool that grows has all at once");
    }

    #[test]
    fn a_part_that_shrinks_by_rounding_holds_the_others_until_it_is_seen() {
        // Two parts of a pool that grows, one of which had more than its new share.
        let shares = [3, 3, 4];
        let cells = resized(&shares, &[4, 1, 1]);
        assert_eq!(shown(&cells), [(3, 4), (3, 3), (3, 3)]);
        assert_eq!(settled(&shares, &cells, &[2, 0, 0]), Some(vec![]));
    }

    /// Keys that go by the ceilings that they were told, members that take and free, a pool that is
    /// resized and settles: as adversarial as it gets.
    #[derive(Clone, Debug)]
    enum Move {
        Resize(Vec<u64>),
        /// One key learns what is in force.
        Tell(usize),
        Take(usize, u64),
        Free(usize, u64),
        /// Looks at the keys, one after the other, with a move of a member between.
        Look {
            taken: (usize, u64),
            freed: (usize, u64),
        },
    }

    /// Often there is nothing for a part.
    fn shares() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(prop_oneof![Just(0), 0_u64..60], CELLS)
    }

    fn moves() -> impl Strategy<Value = Move> {
        let units = 1_u64..60;
        let member = || (0..CELLS, units.clone());
        prop_oneof![
            1 => shares().prop_map(Move::Resize),
            4 => (0..CELLS).prop_map(Move::Tell),
            6 => member().prop_map(|(cell, units)| Move::Take(cell, units)),
            4 => member().prop_map(|(cell, units)| Move::Free(cell, units)),
            3 => (member(), member()).prop_map(|(taken, freed)| Move::Look { taken, freed }),
        ]
    }

    const CELLS: usize = 3;

    struct World {
        shares: Vec<u64>,
        cells: Vec<SettlingCell>,
        version: u64,
        /// By key: the ceiling it goes by, and of which version.
        keys: Vec<(u64, u64)>,
        taken: Vec<u64>,
        /// By version: the most that may be taken once all keys know it.
        bound: u64,
        bound_version: u64,
    }

    impl World {
        fn ceiling(&self, cell: usize) -> u64 {
            self.cells.get(cell).map_or(self.shares[cell], |known| known.ceiling)
        }

        fn tell(&mut self, cell: usize) {
            self.keys[cell] = (self.ceiling(cell), self.version);
        }

        fn take(&mut self, cell: usize, units: u64) {
            let free = self.keys[cell].0.saturating_sub(self.taken[cell]);
            self.taken[cell] += units.min(free);
        }

        fn free(&mut self, cell: usize, units: u64) {
            self.taken[cell] -= units.min(self.taken[cell]);
        }

        fn change(&mut self, shares: Vec<u64>) {
            let held: Vec<_> = match self.cells.is_empty() {
                true => self.shares.clone(),
                false => self.cells.iter().map(|cell| cell.held_max).collect(),
            };
            self.cells = resized(&shares, &held);
            self.shares = shares;
            self.version += 1;
            self.bound_version = self.version;
            self.bound = u64::MAX;
        }

        fn look(&mut self, between: impl Fn(&mut Self)) {
            let mut seen = vec![];
            for cell in 0..CELLS {
                if cell == 1 {
                    between(self);
                }
                if self.keys[cell].1 != self.version {
                    return;
                }
                seen.push(self.taken[cell]);
            }
            if !self.cells.is_empty()
                && let Some(cells) = settled(&self.shares, &self.cells, &seen)
            {
                self.cells = cells;
                self.version += 1;
            }
        }

        /// What is taken never rises above the size, once all keys have heard of it.
        fn check(&mut self) {
            let taken = sum(&self.taken);
            if self.keys.iter().all(|(_, version)| *version >= self.bound_version) {
                let bound = self.bound.min(taken.max(sum(&self.shares)));
                assert!(taken <= bound, "{taken} are taken of {bound}");
                self.bound = bound;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_order_of_things_takes_more_than_the_size_or_than_was_taken(
            first in shares(),
            moves in proptest::collection::vec(moves(), 1..60),
        ) {
            let mut world = World {
                keys: first.iter().map(|share| (*share, 0)).collect(),
                bound: sum(&first),
                shares: first,
                cells: vec![],
                version: 0,
                taken: vec![0; CELLS],
                bound_version: 0,
            };
            for one in moves {
                match one {
                    Move::Resize(shares) => world.change(shares),
                    Move::Tell(cell) => world.tell(cell),
                    Move::Take(cell, units) => world.take(cell, units),
                    Move::Free(cell, units) => world.free(cell, units),
                    Move::Look { taken, freed } => world.look(|world| {
                        world.take(taken.0, taken.1);
                        world.free(freed.0, freed.1);
                    }),
                }
                world.check();
            }
            // At quiet all that is left of the size can be had.
            for _ in 0..4 {
                (0..CELLS).for_each(|cell| world.tell(cell));
                world.look(|_| {});
            }
            let before = sum(&world.taken);
            (0..CELLS).for_each(|cell| world.tell(cell));
            (0..CELLS).for_each(|cell| world.take(cell, 60));
            prop_assert_eq!(sum(&world.taken), before.max(sum(&world.shares)));
            // And once all has come free, the shares are as they should be.
            (0..CELLS).for_each(|cell| world.free(cell, u64::MAX));
            for _ in 0..4 {
                (0..CELLS).for_each(|cell| world.tell(cell));
                world.look(|_| {});
            }
            prop_assert!(world.cells.is_empty(), "{:?}", world.cells);
        }
    }
}
