//! How a quantity becomes a price: flat, per unit, graduated, by volume, in packages.
//!
//! Quantities and tier bounds are base units of the meter; what a tier or package charges is said
//! in major units. Every model gives the slices it is made of, so that a line can show its sum.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{error::PricingError, exact::Exact, unit_price::UnitPrice};

/// A rule that prices any quantity. Its JSON stands in charges, so that they can be recomputed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum PriceModel {
    /// The same whatever the quantity, also for none.
    Flat { amount: Decimal },
    /// Every unit at one price.
    PerUnit(UnitPrice),
    /// Each unit at the price of the tier that it falls into.
    Graduated { tiers: Tiers },
    /// All units at the price of the tier that the whole quantity falls into.
    Volume { tiers: Tiers },
    /// So much per package begun.
    Package { size: u64, amount: Decimal },
    /// Units of several kinds, each with a price of its own; which of them the quantity consists of
    /// is not known, so it is spread over them in proportion to what was used of each.
    Mixed { shares: Vec<Share> },
}

/// What was used of one kind of unit, and its price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The value of the property that tells the kinds apart; `None` = usage without it.
    pub value: Option<String>,
    /// Base units of this kind in the whole window.
    pub used: u64,
    pub price: UnitPrice,
}

/// One tier: the units up to a bound, at a price, with an optional fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// The last unit of the tier, counted from the quantity's start; `None` = no end.
    pub up_to: Option<u64>,
    pub price: UnitPrice,
    /// Charged once when the tier is used at all, in major units.
    pub flat: Decimal,
}

/// Tiers in order: each ends above the one before, and the last has no end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Tier>", into = "Vec<Tier>")]
pub struct Tiers(Vec<Tier>);

impl TryFrom<Vec<Tier>> for Tiers {
    type Error = PricingError;
    fn try_from(tiers: Vec<Tier>) -> Result<Self, PricingError> {
        Self::new(tiers)
    }
}

impl From<Tiers> for Vec<Tier> {
    fn from(tiers: Tiers) -> Self {
        tiers.0
    }
}

impl Tiers {
    /// Checks the order; the error names the tier by its index.
    pub fn new(tiers: Vec<Tier>) -> Result<Self, PricingError> {
        let mut below = 0;
        for (index, tier) in tiers.iter().enumerate() {
            let last = index + 1 == tiers.len();
            let problem = match tier.up_to {
                _ if tier.price.per == 0 => Some("is priced per 0 units"),
                None if !last => Some("has no end, but others follow"),
                Some(_) if last => Some("is the last and must have no end"),
                Some(bound) if bound <= below => Some("does not end above the one before"),
                _ => None,
            };
            if let Some(problem) = problem {
                return Err(PricingError::Tier { index, problem });
            }
            below = tier.up_to.unwrap_or(below);
        }
        if tiers.is_empty() {
            return Err(PricingError::Tier { index: 0, problem: "is missing" });
        }
        Ok(Self(tiers))
    }
}

/// A part of a quantity and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slice {
    /// Base units in this slice.
    pub quantity: u64,
    /// What they cost together, with the slice's fixed part.
    pub amount: Exact,
}

impl PriceModel {
    /// What `quantity` base units cost, exactly.
    pub fn price(&self, quantity: u64) -> Result<Exact, PricingError> {
        self.slices(quantity)?
            .into_iter()
            .try_fold(Exact::ZERO, |total, slice| total.plus(slice.amount))
    }

    /// The slices that [`PriceModel::price`] adds up; their quantities add up to `quantity`.
    pub fn slices(&self, quantity: u64) -> Result<Vec<Slice>, PricingError> {
        match self {
            Self::Flat { amount } => {
                Ok(vec![Slice { quantity, amount: Exact::from_decimal(*amount) }])
            }
            Self::PerUnit(price) => Ok(vec![Slice { quantity, amount: price.of(quantity)? }]),
            Self::Graduated { tiers } => graduated(tiers, quantity),
            Self::Volume { tiers } => volume(tiers, quantity),
            Self::Package { size, amount } => packages(*size, *amount, quantity),
            Self::Mixed { shares } => mixed(shares, quantity),
        }
    }
}

fn graduated(tiers: &Tiers, quantity: u64) -> Result<Vec<Slice>, PricingError> {
    let mut slices = Vec::new();
    let mut below = 0;
    for tier in &tiers.0 {
        if quantity <= below {
            break;
        }
        let end = tier.up_to.map_or(quantity, |bound| bound.min(quantity));
        slices.push(tier.slice(end - below)?);
        below = end;
    }
    Ok(slices)
}

fn volume(tiers: &Tiers, quantity: u64) -> Result<Vec<Slice>, PricingError> {
    let holds = |tier: &&Tier| tier.up_to.is_none_or(|bound| quantity <= bound);
    match tiers.0.iter().find(holds) {
        Some(tier) if quantity > 0 => Ok(vec![tier.slice(quantity)?]),
        _ => Ok(Vec::new()),
    }
}

fn packages(size: u64, amount: Decimal, quantity: u64) -> Result<Vec<Slice>, PricingError> {
    if size == 0 {
        return Err(PricingError::ZeroDivisor { what: "the package's size" });
    }
    let begun = quantity.div_ceil(size);
    Ok(vec![Slice { quantity, amount: Exact::from_decimal(amount).scaled(begun, 1)? }])
}

fn mixed(shares: &[Share], quantity: u64) -> Result<Vec<Slice>, PricingError> {
    let used = shares.iter().try_fold(0u64, |sum, share| sum.checked_add(share.used));
    let used = used.ok_or(PricingError::OutOfRange { what: "the usage of all kinds" })?;
    let amount = shares.iter().try_fold(Exact::ZERO, |total, share| {
        total.plus(share.price.of(share.used)?.scaled(quantity, used)?)
    })?;
    Ok(vec![Slice { quantity, amount }])
}

impl Tier {
    fn slice(&self, quantity: u64) -> Result<Slice, PricingError> {
        let amount = self.price.of(quantity)?.plus(Exact::from_decimal(self.flat))?;
        Ok(Slice { quantity, amount })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::amount::AMOUNT_MAX;

    fn tier(up_to: Option<u64>, rate: &str, flat: &str) -> Tier {
        let price = UnitPrice { rate: rate.parse().unwrap(), per: 1 };
        Tier { up_to, price, flat: flat.parse().unwrap() }
    }

    fn shown(model: &PriceModel, quantity: u64) -> String {
        model.price(quantity).unwrap().to_string()
    }

    #[test]
    fn graduated_tiers_price_each_unit_where_it_falls() {
        let tiers = Tiers::new(vec![
            tier(Some(10), "1", "0"),
            tier(Some(20), "0.5", "2"),
            tier(None, "0.1", "0"),
        ]);
        let model = PriceModel::Graduated { tiers: tiers.unwrap() };
        assert_eq!(shown(&model, 0), "0");
        assert_eq!(shown(&model, 10), "10");
        assert_eq!(shown(&model, 11), "12.5");
        assert_eq!(shown(&model, 25), "17.5");
    }

    #[test]
    fn volume_tiers_price_every_unit_by_the_whole_quantity() {
        let tiers = Tiers::new(vec![tier(Some(10), "1", "0"), tier(None, "0.5", "1")]);
        let model = PriceModel::Volume { tiers: tiers.unwrap() };
        assert_eq!(shown(&model, 0), "0");
        assert_eq!(shown(&model, 10), "10");
        assert_eq!(shown(&model, 11), "6.5");
    }

    #[test]
    fn a_package_begun_is_a_package_owed() {
        let model = PriceModel::Package { size: 1000, amount: "5".parse().unwrap() };
        for (quantity, amount) in [(0, "0"), (1, "5"), (1000, "5"), (1001, "10")] {
            assert_eq!(shown(&model, quantity), amount);
        }
        let broken = PriceModel::Package { size: 0, amount: Decimal::ONE };
        assert!(matches!(broken.price(1), Err(PricingError::ZeroDivisor { .. })));
    }

    #[test]
    fn a_flat_price_is_owed_for_nothing_too() {
        let model = PriceModel::Flat { amount: "4.99".parse().unwrap() };
        assert_eq!(shown(&model, 0), "4.99");
        assert_eq!(shown(&model, AMOUNT_MAX), "4.99");
    }

    #[test]
    fn kinds_of_units_share_a_quantity_in_proportion_to_their_use() {
        let share = |value: Option<&str>, used, rate: &str| Share {
            value: value.map(str::to_owned),
            used,
            price: UnitPrice { rate: rate.parse().unwrap(), per: 1 },
        };
        let shares = vec![share(Some("large"), 100, "0.03"), share(None, 200, "0.01")];
        let model = PriceModel::Mixed { shares };
        // 10 of the 30 are large.
        assert_eq!(shown(&model, 30), "0.5");
        assert_eq!(shown(&model, 1), "1/60");
        let nothing = PriceModel::Mixed { shares: Vec::new() };
        assert!(matches!(nothing.price(1), Ok(amount) if amount == Exact::ZERO));
        let unused = PriceModel::Mixed { shares: vec![share(None, 0, "1")] };
        assert!(matches!(unused.price(1), Err(PricingError::ZeroDivisor { .. })));
    }

    #[test]
    fn tiers_out_of_order_are_refused_by_their_index() {
        let falling =
            vec![tier(Some(10), "1", "0"), tier(Some(10), "1", "0"), tier(None, "1", "0")];
        assert!(matches!(Tiers::new(falling), Err(PricingError::Tier { index: 1, .. })));
        let open = vec![tier(None, "1", "0"), tier(None, "1", "0")];
        assert!(matches!(Tiers::new(open), Err(PricingError::Tier { index: 0, .. })));
        let closed = vec![tier(Some(10), "1", "0")];
        assert!(matches!(Tiers::new(closed), Err(PricingError::Tier { index: 0, .. })));
        assert!(Tiers::new(Vec::new()).is_err());
    }

    fn any_tiers(bound_max: u64, flats: bool) -> impl Strategy<Value = Tiers> {
        let rate = (0i64..1_000_000, 0u32..6);
        let part = (1..=bound_max, rate.clone(), 0i64..(if flats { 100 } else { 1 }));
        (prop::collection::vec(part, 0..4), rate).prop_map(|(mut parts, last)| {
            parts.sort_by_key(|part| part.0);
            parts.dedup_by_key(|part| part.0);
            let priced =
                |(mantissa, scale)| UnitPrice { rate: Decimal::new(mantissa, scale), per: 7 };
            let mut tiers: Vec<Tier> = parts
                .into_iter()
                .map(|(bound, rate, flat)| Tier {
                    up_to: Some(bound),
                    price: priced(rate),
                    flat: Decimal::from(flat),
                })
                .collect();
            tiers.push(Tier { up_to: None, price: priced(last), flat: Decimal::ZERO });
            Tiers::new(tiers).unwrap()
        })
    }

    proptest! {
        #[test]
        fn graduated_equals_the_sum_of_what_each_single_unit_costs(
            tiers in any_tiers(40, false), quantity in 0u64..80,
        ) {
            let price_of_unit = |number: u64| {
                let tier = tiers.0.iter().find(|t| t.up_to.is_none_or(|bound| number <= bound));
                tier.unwrap().price.of(1).unwrap()
            };
            let sum = (1..=quantity)
                .try_fold(Exact::ZERO, |sum, number| sum.plus(price_of_unit(number)))
                .unwrap();
            prop_assert_eq!(PriceModel::Graduated { tiers }.price(quantity).unwrap(), sum);
        }

        #[test]
        fn more_never_costs_less_except_by_volume(
            tiers in any_tiers(AMOUNT_MAX, true), a in 0..=AMOUNT_MAX, b in 0..=AMOUNT_MAX,
            size in 1..=AMOUNT_MAX,
        ) {
            let (less, more) = (a.min(b), a.max(b));
            for model in [
                PriceModel::Graduated { tiers: tiers.clone() },
                PriceModel::PerUnit(tiers.0[0].price),
                PriceModel::Package { size, amount: Decimal::TWO },
                PriceModel::Flat { amount: Decimal::TWO },
            ] {
                let (less, more) = (model.price(less).unwrap(), model.price(more).unwrap());
                prop_assert!(less.partial_cmp(&more).unwrap().is_le(), "{model:?}");
            }
        }

        #[test]
        fn slices_hold_the_whole_quantity_once(
            tiers in any_tiers(AMOUNT_MAX, true), quantity in 0..=AMOUNT_MAX,
        ) {
            for model in
                [PriceModel::Graduated { tiers: tiers.clone() }, PriceModel::Volume { tiers }]
            {
                let slices = model.slices(quantity).unwrap();
                prop_assert_eq!(slices.iter().map(|s| s.quantity).sum::<u64>(), quantity);
            }
        }
    }
}
