//! How much an operation takes of each of its meters.

use crate::domain::{
    amount::check_amount,
    catalog::operations::OperationDef,
    ids::MeterName,
    invalid::{Invalid, Problems},
};

/// What is asked of one meter.
#[derive(Clone, Copy)]
pub struct Part<'d> {
    pub meter: &'d MeterName,
    /// Base units.
    pub amount: i64,
}

/// What is asked of each meter, in the operation's order; a meter that is named twice is added up.
/// `amounts` are the caller's, in base units by the meter's name, each named once.
pub fn parts<'d, 'a>(
    definition: &'d OperationDef,
    amounts: impl Iterator<Item = (&'a str, i64)> + Clone,
) -> Result<Vec<Part<'d>>, Problems> {
    let mut parts = Vec::with_capacity(definition.meters.len());
    for_each_part(definition, amounts, |part| parts.push(part))?;
    Ok(parts)
}

/// As [`parts`], each of which goes to `take`.
pub fn for_each_part<'d, 'a>(
    definition: &'d OperationDef,
    amounts: impl Iterator<Item = (&'a str, i64)> + Clone,
    mut take: impl FnMut(Part<'d>),
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    for (meter, _) in amounts.clone() {
        if !definition.meters.iter().any(|taken| taken.meter.as_str() == meter) {
            problems.push(Invalid::new(
                field(meter),
                format!("is no meter of the operation {}", definition.name),
                "leave it out",
            ));
        }
    }
    for (number, taken) in definition.meters.iter().enumerate() {
        if definition.meters.iter().take(number).any(|before| before.meter == taken.meter) {
            continue;
        }
        let Some(amount) = problems.keep(amount(definition, amounts.clone(), &taken.meter)) else {
            continue;
        };
        take(Part { meter: &taken.meter, amount });
    }
    problems.into_result()
}

/// What the catalog fixes of a meter, and what the caller says where it leaves something open.
fn amount<'a>(
    definition: &OperationDef,
    mut amounts: impl Iterator<Item = (&'a str, i64)>,
    meter: &MeterName,
) -> Result<i64, Invalid> {
    let entries = || definition.meters.iter().filter(|taken| taken.meter == *meter);
    let fixed = entries().filter_map(|taken| taken.amount).map(|amount| amount.get());
    let fixed = fixed.fold(0, u64::saturating_add);
    let is_open = entries().any(|taken| taken.amount.is_none());
    let given = amounts.find(|(name, _)| *name == meter.as_str()).map(|(_, given)| given);
    let given = match (is_open, given) {
        (true, Some(given)) => given,
        (true, None) => {
            let remedy = "give the base units; 0 is an amount too";
            return Err(Invalid::new(field(meter.as_str()), "is missing", remedy));
        }
        (false, Some(_)) => {
            let problem = format!("is fixed by the catalog ({fixed})");
            return Err(Invalid::new(field(meter.as_str()), problem, "leave it out"));
        }
        (false, None) => 0,
    };
    let total = i64::try_from(fixed).unwrap_or(i64::MAX).saturating_add(given);
    // The name is only made for who reads it.
    let checked = check_amount("amounts", given).and_then(|_| check_amount("amounts", total));
    checked.map(|_| total).map_err(|invalid| Invalid { field: field(meter.as_str()), ..invalid })
}

fn field(meter: &str) -> String {
    format!("amounts[{meter}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> OperationDef {
        serde_json::from_value(serde_json::json!({
            "name": "ask",
            "meters": [
                {"meter": "tokens"}, {"meter": "jobs", "amount": 1},
                {"meter": "tokens", "amount": 5}, {"meter": "jobs", "amount": 2},
            ],
        }))
        .unwrap()
    }

    fn refused(amounts: &[(&str, i64)]) -> Vec<String> {
        let problems = parts(&definition(), amounts.iter().copied()).map(drop).unwrap_err();
        problems.listed().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_meter_that_is_named_twice_is_added_up() {
        let definition = definition();
        let parts = parts(&definition, [("tokens", 7)].into_iter()).unwrap();
        let told: Vec<_> = parts.iter().map(|part| (part.meter.as_str(), part.amount)).collect();
        assert_eq!(told, [("tokens", 12), ("jobs", 3)]);
    }

    #[test]
    fn every_wrong_amount_is_told_by_its_meter() {
        let told = refused(&[("jobs", 1), ("seats", 1)]);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("amounts[seats]: is no meter of the operation ask"));
        assert!(told[1].starts_with("amounts[tokens]: is missing"));
        assert!(told[2].starts_with("amounts[jobs]: is fixed by the catalog (3)"));
        assert!(refused(&[("tokens", -1)])[0].starts_with("amounts[tokens]: is negative"));
        let most = (1 << 53) - 1;
        assert!(refused(&[("tokens", most)])[0].starts_with("amounts[tokens]: is out of range"));
    }
}
