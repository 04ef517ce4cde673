//! Pools: one allowance that several tenants of an account share, with priorities.
//!
//! A pool's size is cut into cells, each a counter of its own: a *reserve* for every class that
//! keeps something back from lower ones, and what is left *in common*. A member draws on the common
//! cell first, then on the reserves of lower classes from the lowest up, and on its own class' last.
//! So a class stops exactly at what is kept back for higher ones, and the sum is the size.
//!
//! While a pool *settles* at another size ([`super::pool_settling`]), cells may admit less than their
//! shares.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use super::{
    catalog::{
        allowances::PoolDef,
        decimal::{PERCENT_DECIMALS_MAX, Percent},
        names::RuleName,
    },
    cell_key::CellKey,
    ids::{MeterName, PoolId, Subject, TenantId},
    invalid::Invalid,
    pool_settling::{self, SettlingCell},
    window::WindowLabel,
};

/// A class of members, and what it keeps back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClass {
    pub name: RuleName,
    /// Base units kept back from lower classes.
    pub keeps_back: u64,
    /// The part of any size that it keeps back.
    #[serde(default)]
    pub keeps_back_percent: Percent,
}

impl PoolClass {
    /// A class that was stored without its percentage gets the one with the fewest digits that
    /// gives what it keeps back of `size`.
    pub fn with_percent_of(mut self, size: u64) -> Self {
        if self.keeps_back > 0 && self.keeps_back_percent == Percent::default() {
            self.keeps_back_percent = percent_for(self.keeps_back, size);
        }
        self
    }

    /// Whether it has a cell: one of 0 units too, as long as the class keeps something back of a
    /// larger size. What was drawn on it before stays counted there, and comes free there.
    fn has_cell(&self) -> bool {
        self.keeps_back > 0 || self.keeps_back_percent > Percent::default()
    }
}

/// The classes of a pool, the highest first, at the size that the catalog gives it.
pub fn classes(pool: &PoolDef) -> Vec<PoolClass> {
    let class = |priority: &super::catalog::allowances::PoolPriority| PoolClass {
        name: priority.name.clone(),
        keeps_back: 0,
        keeps_back_percent: priority.keeps_back_percent,
    };
    cut(pool.priorities.iter().map(class).collect(), pool.size.get())
}

/// Has each class keep back its percentage of `size`, rounded down to whole base units.
fn cut(mut classes: Vec<PoolClass>, size: u64) -> Vec<PoolClass> {
    let mut left = size;
    for class in &mut classes {
        // Percentages that were found for rows without them may add up to a little more than 100.
        class.keeps_back = units_of(class.keeps_back_percent, size).min(left);
        left -= class.keeps_back;
    }
    classes
}

fn units_of(percent: Percent, size: u64) -> u64 {
    let units = Decimal::from(size) * percent.get() / Decimal::ONE_HUNDRED;
    u64::try_from(units.floor()).unwrap_or(0)
}

fn percent_for(units: u64, size: u64) -> Percent {
    let exact = Decimal::from(units) * Decimal::ONE_HUNDRED / Decimal::from(size.max(1));
    let rounded = |decimals: u32, way: RoundingStrategy| {
        // In range: no class keeps back more than the size.
        exact.round_dp_with_strategy(decimals, way).to_string().parse().unwrap_or_default()
    };
    let mut by_digits = (0..=PERCENT_DECIMALS_MAX)
        .map(|decimals| rounded(decimals, RoundingStrategy::ToPositiveInfinity));
    let fitting = by_digits.find(|percent| units_of(*percent, size) == units);
    fitting.unwrap_or_else(|| rounded(PERCENT_DECIMALS_MAX, RoundingStrategy::ToZero))
}

/// A pool as enforcement needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub id: PoolId,
    pub meter: MeterName,
    /// Base units in each window.
    pub size: u64,
    /// The highest first; empty = all members are equal.
    pub classes: Vec<PoolClass>,
    /// Number of the last change of its shares.
    #[serde(default)]
    pub version: u64,
    /// While what is used may not fit the shares: a cell for each class, in their order, and then
    /// the common one. Else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settling: Vec<SettlingCell>,
}

/// A cell of a pool: whose counter it is, and its share of the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCell {
    pub owner: TenantId,
    pub units: u64,
    /// What it admits up to: its share, unless the pool is settling.
    pub ceiling: u64,
}

impl Pool {
    /// The cells that members of `class` draw on, in burn order; also those of 0 units, on which
    /// something may have been drawn at another size.
    pub fn cells_of(&self, class: Option<&RuleName>) -> Vec<PoolCell> {
        let own = self.classes.iter().position(|known| Some(&known.name) == class);
        let own = own.unwrap_or(self.classes.len());
        let cells = self.cells().skip(own).collect::<Vec<_>>();
        cells.into_iter().rev().flatten().collect()
    }

    /// The classes of its members, each of which has a share of its own; `None`: all are equal.
    pub fn shares(&self) -> impl Iterator<Item = PoolMembership> {
        let classes = self.classes.iter().map(|class| Some(class.name.clone()));
        let equal = self.classes.is_empty().then_some(None);
        let of = |class| PoolMembership { pool: self.clone(), class };
        classes.chain(equal).map(of)
    }

    /// The owners of all its cells.
    pub fn owners(&self) -> impl Iterator<Item = TenantId> {
        self.cells().flatten().map(|cell| cell.owner)
    }

    /// The cell that `owner` names.
    pub fn cell(&self, owner: &TenantId) -> Option<PoolCell> {
        self.cells().flatten().find(|cell| cell.owner == *owner)
    }

    /// By class, the highest first, and then what is in common; `None` for a class without a cell.
    pub fn cells(&self) -> impl Iterator<Item = Option<PoolCell>> {
        let reserves = self.classes.iter().map(|class| {
            let owner = || TenantId::of_pool(self.id, Some(class.name.as_str()));
            class.has_cell().then(|| (owner(), class.keeps_back))
        });
        let common = (TenantId::of_pool(self.id, None), self.in_common());
        let all = reserves.chain(std::iter::once(Some(common))).enumerate();
        all.map(|(index, cell)| {
            let (owner, units) = cell?;
            let ceiling = self.settling.get(index).map_or(units, |cell| cell.ceiling);
            Some(PoolCell { owner, units, ceiling })
        })
    }

    /// This pool at another size. The shares go by the percentages alone, so that no size that the
    /// pool has had leaves a trace in the next.
    pub fn at_size(&self, size: u64) -> Self {
        let classes = cut(self.classes.clone(), size);
        let resized = Self { size, classes, settling: vec![], ..self.clone() };
        let held: Vec<_> = match self.settling.is_empty() {
            true => self.units().collect(),
            false => self.settling.iter().map(|cell| cell.held_max).collect(),
        };
        let shares: Vec<_> = resized.units().collect();
        Self { settling: pool_settling::resized(&shares, &held), ..resized }
    }

    /// This settling pool, when so much has been seen to be `taken` of its cells (in the order of
    /// [`Pool::cells`]) under the ceilings in force; `None`: nothing changes by that.
    pub fn settled_by(&self, taken: &[u64]) -> Option<Self> {
        if self.settling.is_empty() || taken.len() != self.settling.len() {
            return None;
        }
        let shares: Vec<_> = self.units().collect();
        let settling = pool_settling::settled(&shares, &self.settling, taken)?;
        Some(Self { settling, ..self.clone() })
    }

    /// Whether its cells may admit less than their shares, since what is used may not fit these.
    pub fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// The cells' shares, also of classes without a cell.
    fn units(&self) -> impl Iterator<Item = u64> {
        let kept = self.classes.iter().map(|class| class.keeps_back);
        kept.chain(std::iter::once(self.in_common()))
    }

    fn in_common(&self) -> u64 {
        let kept: u64 = self.classes.iter().map(|class| class.keeps_back).sum();
        self.size.saturating_sub(kept)
    }

    /// Checks that there is such a class.
    pub fn check_class(&self, class: Option<&RuleName>) -> Result<(), Invalid> {
        let names: Vec<_> = self.classes.iter().map(|class| class.name.as_str()).collect();
        match class {
            None if names.is_empty() => Ok(()),
            Some(class) if names.contains(&class.as_str()) => Ok(()),
            _ if names.is_empty() => {
                Err(Invalid::new("class", "is given, and the pool has none", "leave it out"))
            }
            _ => Err(Invalid::new(
                "class",
                class.map_or("is missing".to_owned(), |class| format!("{class} is unknown")),
                format!("use one of {}", names.join(", ")),
            )),
        }
    }
}

/// A tenant's place in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMembership {
    pub pool: Pool,
    pub class: Option<RuleName>,
}

impl PoolMembership {
    /// What alerts of the class' share are kept under, in the pool's window `label`.
    pub fn alert_key(&self, label: WindowLabel) -> CellKey {
        let class = self.class.as_ref();
        CellKey {
            tenant: TenantId::of_pool(self.pool.id, None),
            meter: self.pool.meter.clone(),
            // A class' name is a name, and every name is a subject.
            subject: class.and_then(|class| Subject::new(class.as_str()).ok()),
            label,
        }
    }

    /// The counters of the class' share in the pool's window `label`.
    pub fn counter_keys(&self, label: WindowLabel) -> Vec<CellKey> {
        let meter = &self.pool.meter;
        let key = |cell: PoolCell| CellKey {
            tenant: cell.owner,
            meter: meter.clone(),
            subject: None,
            label,
        };
        self.pool.cells_of(self.class.as_ref()).into_iter().map(key).collect()
    }

    /// What the member's class may use.
    pub fn share(&self) -> PoolShare {
        let cells = self.pool.cells_of(self.class.as_ref());
        PoolShare { pool: self.pool.id, units: cells.iter().map(|cell| cell.units).sum() }
    }
}

/// What a class of members may use of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShare {
    pub pool: PoolId,
    /// Base units in each window, by all members of the class and of lower ones together.
    pub units: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(name: &str, keeps_back: u64, percent: &str) -> PoolClass {
        let keeps_back_percent = percent.parse().unwrap();
        PoolClass { name: RuleName::new(name).unwrap(), keeps_back, keeps_back_percent }
    }

    fn pool() -> Pool {
        Pool {
            id: PoolId(3),
            meter: MeterName::new("disk").unwrap(),
            size: 500,
            classes: vec![class("shop", 100, "20"), class("site", 50, "10"), class("old", 0, "0")],
            version: 1,
            settling: vec![],
        }
    }

    fn shares(pool: &Pool, class: Option<&str>) -> Vec<(String, u64)> {
        let class = class.map(|name| RuleName::new(name).unwrap());
        let cells = pool.cells_of(class.as_ref());
        cells.into_iter().map(|cell| (cell.owner.to_string(), cell.units)).collect()
    }

    #[test]
    fn a_class_stops_at_what_is_kept_back_for_higher_ones() {
        let common = ("pool!3".to_owned(), 350);
        let (site, shop) = (("pool!3!site".to_owned(), 50), ("pool!3!shop".to_owned(), 100));
        assert_eq!(shares(&pool(), Some("old")), std::slice::from_ref(&common));
        assert_eq!(shares(&pool(), Some("site")), [common.clone(), site.clone()]);
        assert_eq!(shares(&pool(), Some("shop")), [common, site, shop]);
    }

    #[test]
    fn a_cell_stays_when_nothing_of_a_size_is_left_for_it() {
        let tiny = pool().at_size(4);
        let cells =
            [("pool!3".to_owned(), 4), ("pool!3!site".into(), 0), ("pool!3!shop".into(), 0)];
        assert_eq!(shares(&tiny, Some("shop")), cells);
        assert_eq!(tiny.owners().count(), 3, "who never keeps anything back has no cell");
        assert!(tiny.cell(&TenantId::of_pool(PoolId(3), Some("shop"))).is_some());
    }

    #[test]
    fn a_class_without_a_percentage_gets_the_simplest_that_fits() {
        let percent = |units, size| {
            class("shop", units, "0").with_percent_of(size).keeps_back_percent.to_string()
        };
        assert_eq!(percent(100, 500), "20");
        assert_eq!(percent(2, 10), "20");
        assert_eq!(percent(333, 2_000), "16.65");
        assert_eq!(percent(1, 3), "34");
        assert_eq!(percent(0, 10), "0", "as one that keeps nothing back");
        assert_eq!(class("shop", 7, "12.5").with_percent_of(10), class("shop", 7, "12.5"));
    }

    #[test]
    fn a_smaller_pool_settles_when_what_is_taken_fits() {
        let small = pool().at_size(400);
        let ceilings = |pool: &Pool| {
            let cells = pool.cells_of(Some(&pool.classes[0].name)).into_iter();
            cells.map(|cell| (cell.units, cell.ceiling)).collect::<Vec<_>>()
        };
        assert_eq!(ceilings(&small), [(280, 250), (40, 0), (80, 0)], "all may be taken");
        let seen = small.settled_by(&[0, 0, 0, 300]).unwrap();
        assert_eq!(ceilings(&seen), [(280, 280), (40, 20), (80, 80)], "the highest class first");
        let settled = seen.settled_by(&[5, 0, 0, 280]).unwrap();
        assert_eq!(ceilings(&settled), [(280, 280), (40, 40), (80, 80)]);
        assert!(!settled.is_settling() && settled.settled_by(&[5, 0, 0, 280]).is_none());
    }

    proptest! {
        #[test]
        fn no_size_leaves_a_trace_in_the_next(
            tenths in proptest::collection::vec(0_u32..=250, 0..4),
            sizes in proptest::collection::vec(1_u64..1_000_000, 1..20),
            last in 1_u64..1_000_000,
        ) {
            let percent = |tenth: &u32| Decimal::new((*tenth).into(), 1).to_string();
            let classes = tenths.iter().enumerate();
            let classes = classes.map(|(n, tenth)| class(&format!("c{n}"), 0, &percent(tenth)));
            let first = Pool { classes: classes.collect(), size: 1, ..pool() };
            let after = sizes.iter().fold(first.clone(), |pool, size| pool.at_size(*size));
            let after = after.at_size(last);
            prop_assert_eq!(&after.classes, &first.at_size(last).classes);
            let highest = first.classes.first().map(|class| class.name.clone());
            let cells = after.cells_of(highest.as_ref());
            prop_assert_eq!(cells.iter().map(|cell| cell.units).sum::<u64>(), last);
        }

        #[test]
        fn a_percentage_that_is_found_gives_what_was_kept_back(
            size in 1_u64..10_000_000_000, hundredths in 0_i64..=10_000,
        ) {
            let percent: Percent = Decimal::new(hundredths, 2).to_string().parse().unwrap();
            let kept = units_of(percent, size);
            let found = class("shop", kept, "0").with_percent_of(size).keeps_back_percent;
            prop_assert_eq!(units_of(found, size), kept);
        }
    }

    #[test]
    fn a_cell_is_found_by_its_owner() {
        let reserve = TenantId::of_pool(PoolId(3), Some("site"));
        let cell = PoolCell { owner: reserve.clone(), units: 50, ceiling: 50 };
        assert_eq!(pool().cell(&reserve), Some(cell));
        assert_eq!(reserve.pool(), Some(PoolId(3)));
        assert_eq!(TenantId::new("pool").unwrap().pool(), None);
        assert_eq!(TenantId::stored("pool!3!site"), Ok(reserve));
        assert!(TenantId::new("pool!3").is_err(), "no caller can name it");
    }
}
