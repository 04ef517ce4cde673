//! A catalog's usage price as a price model.

use crate::domain::{catalog::prices::UsagePrice, invalid::Invalid};

use super::{
    model::{PriceModel, Share, Tier, Tiers},
    unit_price::UnitPrice,
};

/// The model that `price` states, its rates per `per` base units.
///
/// A price by property needs `used_by_value`: what was used with each value of the property (`None`
/// = without it); it is not looked at otherwise. The error names what the catalog's validation would
/// have refused.
pub fn price_model(
    price: &UsagePrice,
    per: u64,
    used_by_value: &[(Option<String>, u64)],
) -> Result<PriceModel, Invalid> {
    let unit_price = |rate| UnitPrice { rate, per };
    let tiers = |steps: &[crate::domain::catalog::prices::PriceTier], field| {
        let tiers = steps.iter().map(|step| Tier {
            up_to: step.up_to.map(|bound| bound.get()),
            price: unit_price(step.rate.get()),
            flat: step.flat.unwrap_or_default().get(),
        });
        Tiers::new(tiers.collect()).map_err(|error| {
            Invalid::new(field, error.to_string(), "give tiers in order, the last without an end")
        })
    };
    match price {
        UsagePrice { rate: Some(rate), by_property: Some(by), .. } => {
            let shares = used_by_value.iter().map(|(value, used)| {
                let own = value.as_ref().and_then(|value| by.rates.get(value));
                let price = unit_price(own.unwrap_or(rate).get());
                Share { value: value.clone(), used: *used, price }
            });
            Ok(PriceModel::Mixed { shares: shares.collect() })
        }
        UsagePrice { rate: Some(rate), graduated: None, volume: None, package: None, .. } => {
            Ok(PriceModel::PerUnit(unit_price(rate.get())))
        }
        UsagePrice { rate: None, graduated: Some(steps), volume: None, package: None, .. } => {
            Ok(PriceModel::Graduated { tiers: tiers(steps, "graduated")? })
        }
        UsagePrice { rate: None, graduated: None, volume: Some(steps), package: None, .. } => {
            Ok(PriceModel::Volume { tiers: tiers(steps, "volume")? })
        }
        UsagePrice {
            rate: None, graduated: None, volume: None, package: Some(package), ..
        } => Ok(PriceModel::Package { size: package.size.get(), amount: package.price.get() }),
        _ => Err(Invalid::new(
            "price",
            "does not state one way of pricing",
            "give exactly one of rate, graduated, volume and package",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: serde_json::Value) -> UsagePrice {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_way_of_pricing_becomes_its_model() {
        let priced = |json, quantity| {
            price_model(&parsed(json), 10, &[]).unwrap().price(quantity).unwrap().to_string()
        };
        assert_eq!(priced(serde_json::json!({"rate": "0.5"}), 25), "1.25");
        let tiers = serde_json::json!([{"up_to": 20, "rate": "1"}, {"rate": "0.1", "flat": "3"}]);
        assert_eq!(priced(serde_json::json!({"graduated": tiers}), 30), "5.1");
        assert_eq!(priced(serde_json::json!({"volume": tiers}), 30), "3.3");
        let package = serde_json::json!({"package": {"size": 20, "price": "4"}});
        assert_eq!(priced(package, 21), "8");
    }

    #[test]
    fn a_value_of_the_property_has_its_own_rate_and_others_the_plain_one() {
        let by = serde_json::json!({"property": "model", "rates": {"large": "0.03"}});
        let price = parsed(serde_json::json!({"rate": "0.01", "by_property": by}));
        let used = [(Some("large".to_owned()), 100), (Some("small".to_owned()), 150), (None, 50)];
        let model = price_model(&price, 1, &used).unwrap();
        assert_eq!(model.price(30).unwrap().to_string(), "0.5");
    }

    #[test]
    fn no_way_and_two_ways_are_refused() {
        assert!(price_model(&UsagePrice::default(), 1, &[]).is_err());
        let two = serde_json::json!({"rate": "1", "package": {"size": 1, "price": "1"}});
        assert!(price_model(&parsed(two), 1, &[]).is_err());
    }
}
