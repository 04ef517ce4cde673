//! Pools: one allowance that several tenants of an account share, with priorities.
//!
//! A pool's size is cut into cells, each a counter of its own: a *reserve* for every class that
//! keeps something back from lower ones, and what is left *in common*. A member draws on the common
//! cell first, then on the reserves of lower classes from the lowest up, and on its own class' last.
//! So a class stops exactly at what is kept back for higher ones, and the sum is the size.

use serde::{Deserialize, Serialize};

use super::{
    catalog::{allowances::PoolDef, decimal::Percent, names::RuleName},
    cell_key::CellKey,
    ids::{MeterName, PoolId, Subject, TenantId},
    invalid::Invalid,
    window::WindowLabel,
};

/// A class of members, and what it keeps back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClass {
    pub name: RuleName,
    /// Base units kept back from lower classes.
    pub keeps_back: u64,
}

/// The classes of a pool, the highest first; shares are rounded down to whole base units.
pub fn classes(pool: &PoolDef) -> Vec<PoolClass> {
    let share = |percent: Percent| {
        let units = rust_decimal::Decimal::from(pool.size.get()) * percent.get();
        u64::try_from((units / rust_decimal::Decimal::ONE_HUNDRED).floor()).unwrap_or(0)
    };
    let class = |priority: &super::catalog::allowances::PoolPriority| PoolClass {
        name: priority.name.clone(),
        keeps_back: share(priority.keeps_back_percent),
    };
    pool.priorities.iter().map(class).collect()
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
}

/// A cell of a pool: whose counter it is, and its share of the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCell {
    pub owner: TenantId,
    pub units: u64,
}

impl Pool {
    /// The cells that members of `class` draw on, in burn order.
    pub fn cells_of(&self, class: Option<&RuleName>) -> Vec<PoolCell> {
        let common = PoolCell { owner: TenantId::of_pool(self.id, None), units: self.in_common() };
        let own = self.classes.iter().position(|known| Some(&known.name) == class);
        let reachable = own.map_or(&[][..], |own| &self.classes[own..]);
        let reserves = reachable.iter().rev().filter(|class| class.keeps_back > 0);
        let reserve = |class: &PoolClass| PoolCell {
            owner: TenantId::of_pool(self.id, Some(class.name.as_str())),
            units: class.keeps_back,
        };
        std::iter::once(common).chain(reserves.map(reserve)).collect()
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
        let kept = self.classes.iter().filter(|class| class.keeps_back > 0);
        let kept = kept.map(|class| TenantId::of_pool(self.id, Some(class.name.as_str())));
        std::iter::once(TenantId::of_pool(self.id, None)).chain(kept)
    }

    /// The classes of this pool at another size: what each keeps back stays the same part of the
    /// size, rounded down.
    pub fn classes_at(&self, size: u64) -> Vec<PoolClass> {
        let scaled = |units: u64| {
            let part = u128::from(units) * u128::from(size) / u128::from(self.size.max(1));
            u64::try_from(part).unwrap_or(size)
        };
        let mut classes = self.classes.clone();
        classes.iter_mut().for_each(|class| class.keeps_back = scaled(class.keeps_back));
        // What rounding leaves goes to what is in common, but of a pool that shrinks no part grows:
        // it would admit anew what the others have taken already.
        let kept: u64 = classes.iter().map(|class| class.keeps_back).sum();
        let mut over = match size < self.size {
            true => (size - kept).saturating_sub(self.in_common()),
            false => 0,
        };
        for (class, before) in classes.iter_mut().zip(&self.classes) {
            let more = over.min(before.keeps_back - class.keeps_back.min(before.keeps_back));
            class.keeps_back += more;
            over -= more;
        }
        classes
    }

    /// The share of the cell that `owner` names.
    pub fn units_of(&self, owner: &TenantId) -> Option<u64> {
        let is_it = |class: Option<&str>| TenantId::of_pool(self.id, class) == *owner;
        if is_it(None) {
            return Some(self.in_common());
        }
        let class = self.classes.iter().find(|class| is_it(Some(class.name.as_str())))?;
        Some(class.keeps_back)
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
    use super::*;

    fn pool() -> Pool {
        let class =
            |name: &str, keeps_back| PoolClass { name: RuleName::new(name).unwrap(), keeps_back };
        Pool {
            id: PoolId(3),
            meter: MeterName::new("disk").unwrap(),
            size: 500,
            classes: vec![class("shop", 100), class("site", 50), class("archive", 0)],
            version: 1,
        }
    }

    fn shares(class: Option<&str>) -> Vec<(String, u64)> {
        let class = class.map(|name| RuleName::new(name).unwrap());
        let cells = pool().cells_of(class.as_ref());
        cells.into_iter().map(|cell| (cell.owner.to_string(), cell.units)).collect()
    }

    #[test]
    fn a_class_stops_at_what_is_kept_back_for_higher_ones() {
        let common = ("pool!3".to_owned(), 350);
        let (site, shop) = (("pool!3!site".to_owned(), 50), ("pool!3!shop".to_owned(), 100));
        assert_eq!(shares(Some("archive")), std::slice::from_ref(&common));
        assert_eq!(shares(Some("site")), [common.clone(), site.clone()]);
        assert_eq!(shares(Some("shop")), [common, site, shop]);
    }

    #[test]
    fn at_another_size_each_class_keeps_back_the_same_part() {
        let sizes = |size| pool().classes_at(size).into_iter().map(|class| class.keeps_back);
        assert_eq!(sizes(250).collect::<Vec<_>>(), [50, 25, 0]);
        assert_eq!(sizes(7).collect::<Vec<_>>(), [1, 0, 0]);
        let (size, before) = (10, [3, 3]);
        let classes =
            before.map(|keeps_back| PoolClass { keeps_back, ..pool().classes[0].clone() });
        let small = Pool { size, classes: classes.to_vec(), ..pool() };
        let after: Vec<_> = small.classes_at(9).into_iter().map(|class| class.keeps_back).collect();
        assert_eq!(after, [3, 2], "4 in common stay 4: no part of a pool that shrinks grows");
        assert_eq!(pool().owners().count(), 3, "who keeps nothing back has no cell");
    }

    #[test]
    fn a_cell_is_found_by_its_owner() {
        let reserve = TenantId::of_pool(PoolId(3), Some("site"));
        assert_eq!(pool().units_of(&reserve), Some(50));
        assert_eq!(reserve.pool(), Some(PoolId(3)));
        assert_eq!(TenantId::new("pool").unwrap().pool(), None);
        assert_eq!(TenantId::stored("pool!3!site"), Ok(reserve));
        assert!(TenantId::new("pool!3").is_err(), "no caller can name it");
    }
}
