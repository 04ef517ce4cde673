//! What usage beyond a plan's included amount costs: (used − included − grace) × rate.

use serde::{Deserialize, Serialize};

use super::{error::PricingError, exact::Exact, model::PriceModel};
use crate::domain::money::{Currency, Money};

/// What is known when a window is closed for billing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverageFacts {
    /// Base units used in the window.
    pub used: u64,
    /// Base units that the plan includes; `None` = unlimited, so nothing is ever beyond.
    pub included: Option<u64>,
    /// Base units beyond the included ones that are free.
    pub grace: u64,
    /// What units beyond included and grace cost; tiers count from the first of these.
    pub price: PriceModel,
    pub currency: Currency,
}

/// A charge that explains itself: the facts it follows from, and each step to the sum.
#[derive(Clone, Debug, PartialEq)]
pub struct OverageLine {
    pub facts: OverageFacts,
    /// Base units beyond included and grace.
    pub billable: u64,
    /// Before rounding.
    pub exact: Exact,
    /// What is owed: `exact` rounded once, half away from zero, to the minor unit.
    pub amount: Money,
}

impl OverageFacts {
    /// Base units that are charged for: used − included − grace, at least 0.
    pub fn billable(&self) -> u64 {
        match self.included {
            None => 0,
            Some(included) => self.used.saturating_sub(included).saturating_sub(self.grace),
        }
    }

    /// The line that these facts lead to; also the way to check one that was charged before.
    pub fn line(self) -> Result<OverageLine, PricingError> {
        let billable = self.billable();
        // Nothing beyond is nothing owed, also where the model has a fixed part.
        let exact = if billable == 0 { Exact::ZERO } else { self.price.price(billable)? };
        let amount = exact.round_half_away_from_zero(self.currency)?;
        Ok(OverageLine { facts: self, billable, exact, amount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::amount::AMOUNT_MAX, pricing::unit_price::UnitPrice};

    const GB: u64 = 1_000_000_000;

    fn business(used: u64) -> OverageFacts {
        OverageFacts {
            used,
            included: Some(200 * GB),
            grace: 5 * GB,
            price: PriceModel::PerUnit(UnitPrice { rate: "0.03".parse().unwrap(), per: GB }),
            currency: Currency::new("USD").unwrap(),
        }
    }

    #[test]
    fn grace_is_free_and_what_follows_is_not() {
        assert_eq!(business(200 * GB).line().unwrap().amount.minor, 0);
        assert_eq!(business(205 * GB).line().unwrap().amount.minor, 0);
        let line = business(215 * GB).line().unwrap();
        assert_eq!((line.billable, line.amount.minor), (10 * GB, 30));
    }

    #[test]
    fn half_a_cent_rounds_up_and_a_byte_less_does_not() {
        // 0.5 GB × 0.03 = 0.015.
        let tie = business(205 * GB + GB / 2).line().unwrap();
        assert_eq!((tie.exact.to_string().as_str(), tie.amount.minor), ("0.015", 2));
        assert_eq!(business(205 * GB + GB / 2 - 1).line().unwrap().amount.minor, 1);
    }

    #[test]
    fn the_facts_read_back_from_a_charge_give_the_same_line() {
        let facts = business(207 * GB + 1);
        let json = serde_json::to_string(&facts).unwrap();
        let read: OverageFacts = serde_json::from_str(&json).unwrap();
        assert_eq!(read.line().unwrap(), facts.line().unwrap(), "{json}");
    }

    #[test]
    fn a_flat_overage_is_owed_only_beyond() {
        let flat = PriceModel::Flat { amount: "10".parse().unwrap() };
        let facts = |used| OverageFacts { price: flat.clone(), ..business(used) };
        assert_eq!(facts(205 * GB).line().unwrap().amount.minor, 0);
        assert_eq!(facts(205 * GB + 1).line().unwrap().amount.minor, 1000);
    }

    #[test]
    fn unlimited_is_never_beyond() {
        let facts = OverageFacts { included: None, ..business(AMOUNT_MAX) };
        assert_eq!(facts.line().unwrap().amount.minor, 0);
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_never_negative_and_grows_with_use(
            a in 0..=AMOUNT_MAX, b in 0..=AMOUNT_MAX, included in 0..=AMOUNT_MAX,
            grace in 0..=AMOUNT_MAX,
        ) {
            let line = |used| {
                let facts = OverageFacts { used, included: Some(included), grace, ..business(0) };
                facts.line().unwrap().amount.minor
            };
            proptest::prop_assert!(line(a) >= 0);
            proptest::prop_assert!(line(a.min(b)) <= line(a.max(b)));
        }
    }
}
