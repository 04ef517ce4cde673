//! What members use of pools, each by itself. Pure.
//!
//! A member takes of a pool what it has drawn and not lowered since, and nothing when it has lowered
//! more than it drew: what others drew is not its to free. Sidecars flush at different times, so a
//! level may come down here before the usage that it undoes goes up. That leaves the member below 0,
//! and what it adds next, at the pool or to what it had before it joined, comes free as it arrives. So
//! in whatever order things come, the cells of a pool add up to what its members stand at above 0.

use std::collections::BTreeMap;

use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, PoolId, TenantId},
    window::WindowLabel,
};

/// Whose use of which pool's window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolUsageKey {
    pub tenant: TenantId,
    pub pool: PoolId,
    pub meter: MeterName,
    pub label: WindowLabel,
}

impl PoolUsageKey {
    /// What `tenant` uses of the counter `key`, if that is a pool's.
    pub fn of(tenant: &TenantId, key: &CellKey) -> Option<Self> {
        let (tenant, meter) = (tenant.clone(), key.meter.clone());
        Some(Self { tenant, pool: key.tenant.pool()?, meter, label: key.label })
    }

    /// Whether the pool is drawn on instead of the counter `key`, the member's own.
    pub fn is_instead_of(&self, key: &CellKey) -> bool {
        (&self.tenant, &self.meter, self.label) == (&key.tenant, &key.meter, key.label)
    }
}

/// What a batch adds to a member's use of a pool, and takes from it. Base units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// By the cell that they were drawn on.
    drawn: BTreeMap<CellKey, i128>,
    pub lowered: i128,
    /// What the member's own counter pays of what it had lowered too much.
    pub paid: i128,
    /// Where what is lowered may come free, in order; empty while nothing is.
    may_free: Vec<CellKey>,
}

impl Movement {
    pub fn draw(&mut self, cell: &CellKey, units: i128) {
        *self.drawn.entry(cell.clone()).or_default() += units;
    }

    pub fn lower(&mut self, may_free: &[CellKey], units: i128) {
        self.lowered += units;
        self.may_free = may_free.to_vec();
    }

    pub fn drawn(&self) -> i128 {
        self.drawn.values().sum()
    }

    /// Units of the pool that come free, if the member stands at `stood` with what it draws here: what
    /// its use above 0 does not grow by, of what was drawn.
    pub fn freed(&self, stood: i128) -> i128 {
        let before = stood - self.drawn();
        let after = stood - self.lowered;
        self.drawn() + before.max(0) - after.max(0)
    }

    /// Shares `freed` units out over the cells, each of which has at most what `standing` says. What
    /// was lowered comes free where the member may use the pool, the last place taking what the others
    /// do not; a debt that is paid, where the units were drawn that pay it.
    pub fn share_out(
        &self,
        freed: i128,
        standing: impl Fn(&CellKey) -> i128,
    ) -> Vec<(CellKey, i128)> {
        let bounded: Vec<(&CellKey, i128)> = match self.may_free.split_last() {
            Some((last, others)) => {
                let others = others.iter().map(|cell| (cell, standing(cell).max(0)));
                others.chain([(last, i128::MAX)]).collect()
            }
            None => self.drawn.iter().rev().map(|(cell, units)| (cell, *units)).collect(),
        };
        let mut left = freed;
        let mut shares = vec![];
        for (cell, most) in bounded {
            let units = left.min(most);
            if units > 0 {
                shares.push((cell.clone(), units));
                left -= units;
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str) -> CellKey {
        CellKey {
            tenant: TenantId::of_pool(PoolId(3), Some(name)),
            meter: "disk".parse().unwrap(),
            subject: None,
            label: "lifetime:0:0".parse().unwrap(),
        }
    }

    fn movement(drawn: &[(&str, i128)], lowered: i128, may_free: &[&str]) -> Movement {
        let mut movement = Movement::default();
        drawn.iter().for_each(|(name, units)| movement.draw(&cell(name), *units));
        if lowered > 0 {
            let cells: Vec<_> = may_free.iter().map(|name| cell(name)).collect();
            movement.lower(&cells, lowered);
        }
        movement
    }

    #[test]
    fn what_a_member_lowers_beyond_what_it_drew_frees_nothing() {
        assert_eq!(movement(&[], 5, &["a"]).freed(3), 3);
        assert_eq!(movement(&[], 5, &["a"]).freed(0), 0);
        assert_eq!(movement(&[], 5, &["a"]).freed(-2), 0);
    }

    #[test]
    fn what_a_member_in_debt_draws_comes_free_until_it_has_paid() {
        assert_eq!(movement(&[("a", 4)], 0, &[]).freed(-6), 4);
        assert_eq!(movement(&[("a", 4)], 0, &[]).freed(1), 3);
        assert_eq!(movement(&[("a", 4)], 0, &[]).freed(4), 0);
    }

    #[test]
    fn what_comes_free_goes_where_units_stand_and_the_rest_to_the_last_place() {
        let lowered = movement(&[], 9, &["kept", "common"]);
        let shares = lowered.share_out(9, |key| if *key == cell("kept") { 4 } else { 2 });
        assert_eq!(shares, [(cell("kept"), 4), (cell("common"), 5)]);
        let paying = movement(&[("a", 3), ("b", 2)], 0, &[]);
        assert_eq!(paying.share_out(4, |_| 0), [(cell("b"), 2), (cell("a"), 2)]);
    }

    proptest::proptest! {
        /// Sidecars flush at different times: in whatever batches and order things come, the pool's
        /// cells hold what the member stands at above 0.
        #[test]
        fn cells_hold_what_the_member_stands_at_above_0(
            batches in proptest::collection::vec((0i128..9, 0i128..9), 1..30),
        ) {
            let (mut stands, mut held) = (0, 0);
            for (drawn, lowered) in batches {
                let movement = movement(&[("a", drawn)], lowered, &["a"]);
                let freed = movement.freed(stands + drawn);
                let shared: i128 =
                    movement.share_out(freed, |_| 0).iter().map(|(_, units)| units).sum();
                proptest::prop_assert_eq!(shared, freed);
                stands += drawn - lowered;
                held += drawn - freed;
                proptest::prop_assert_eq!(held, stands.max(0));
            }
        }
    }
}
