//! How much an operation takes of each of its meters.

use crate::domain::{
    amount::check_amount,
    catalog::operations::OperationDef,
    ids::MeterName,
    invalid::{Invalid, Problems},
    operation::OperationRequest,
};

/// What is asked of one meter.
#[derive(Clone, Copy)]
pub struct Part<'d> {
    pub meter: &'d MeterName,
    /// Base units.
    pub amount: i64,
}

/// What is asked of each meter, in the operation's order; a meter that is named twice is added up.
pub fn parts<'d>(
    definition: &'d OperationDef,
    request: &OperationRequest,
) -> Result<Vec<Part<'d>>, Problems> {
    let mut problems = Problems::default();
    for meter in request.amounts.keys() {
        if !definition.meters.iter().any(|taken| taken.meter == *meter) {
            problems.push(Invalid::new(
                field(meter),
                format!("is no meter of the operation {}", definition.name),
                "leave it out",
            ));
        }
    }
    let mut parts = Vec::with_capacity(definition.meters.len());
    for (number, taken) in definition.meters.iter().enumerate() {
        if definition.meters.iter().take(number).any(|before| before.meter == taken.meter) {
            continue;
        }
        let Some(amount) = problems.keep(amount(definition, request, &taken.meter)) else {
            continue;
        };
        parts.push(Part { meter: &taken.meter, amount });
    }
    problems.into_result().map(|()| parts)
}

/// What the catalog fixes of a meter, and what the caller says where it leaves something open.
fn amount(
    definition: &OperationDef,
    request: &OperationRequest,
    meter: &MeterName,
) -> Result<i64, Invalid> {
    let entries = || definition.meters.iter().filter(|taken| taken.meter == *meter);
    let fixed = entries().filter_map(|taken| taken.amount).map(|amount| amount.get());
    let fixed = fixed.fold(0, u64::saturating_add);
    let is_open = entries().any(|taken| taken.amount.is_none());
    let given = match (is_open, request.amounts.get(meter)) {
        (true, Some(given)) => *given,
        (true, None) => {
            let remedy = "give the base units; 0 is an amount too";
            return Err(Invalid::new(field(meter), "is missing", remedy));
        }
        (false, Some(_)) => {
            let problem = format!("is fixed by the catalog ({fixed})");
            return Err(Invalid::new(field(meter), problem, "leave it out"));
        }
        (false, None) => 0,
    };
    let total = i64::try_from(fixed).unwrap_or(i64::MAX).saturating_add(given);
    // The name is only made for who reads it.
    let checked = check_amount("amounts", given).and_then(|_| check_amount("amounts", total));
    checked.map(|_| total).map_err(|invalid| Invalid { field: field(meter), ..invalid })
}

fn field(meter: &MeterName) -> String {
    format!("amounts[{meter}]")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{
        catalog::names::OperationName, ids::TenantId, properties::Properties, quota::QuotaMode,
    };

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

    fn asked(amounts: &[(&str, i64)]) -> OperationRequest {
        let meter = |name: &str| MeterName::new(name).unwrap();
        OperationRequest {
            tenant: TenantId::new("acme").unwrap(),
            operation: OperationName::new("ask").unwrap(),
            subject: None,
            amounts: amounts.iter().map(|(name, amount)| (meter(name), *amount)).collect(),
            mode: QuotaMode::Consume,
            idempotency_key: None,
            durability: None,
            properties: Properties::default(),
            attributes: BTreeMap::new(),
        }
    }

    fn refused(amounts: &[(&str, i64)]) -> Vec<String> {
        let problems = parts(&definition(), &asked(amounts)).map(drop).unwrap_err();
        problems.listed().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_meter_that_is_named_twice_is_added_up() {
        let definition = definition();
        let parts = parts(&definition, &asked(&[("tokens", 7)])).unwrap();
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
