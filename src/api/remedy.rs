//! What a denied tenant could do, in the wire's form.

use super::fields;
use crate::{domain::remedy::Remedy, proto::v1};

/// Puts remedies into the wire's form.
pub fn remedies(remedies: Vec<Remedy>) -> Vec<v1::Remedy> {
    // What is allowed has none.
    if remedies.is_empty() {
        return vec![];
    }
    remedies.into_iter().map(remedy).collect()
}

fn remedy(remedy: Remedy) -> v1::Remedy {
    use v1::RemedyKind as Kind;
    let of = |kind: Kind| v1::Remedy { kind: kind.into(), ..Default::default() };
    match remedy {
        Remedy::Upgrade { plan } => v1::Remedy { plan: plan.into(), ..of(Kind::Upgrade) },
        Remedy::ContactSales { plan } => v1::Remedy { plan: plan.into(), ..of(Kind::ContactSales) },
        Remedy::WaitUntil { at } => {
            v1::Remedy { wait_until: Some(fields::wire_instant(at)), ..of(Kind::WaitUntil) }
        }
        Remedy::RequestEmergencyUsage { rule, meter, amount, price } => v1::Remedy {
            unit_price: price.per_unit.map_or_else(String::new, |price| price.to_string()),
            currency: price.currency.to_string(),
            name: rule.into(),
            meter: meter.into(),
            amount: fields::units(amount),
            ..of(Kind::RequestEmergencyUsage)
        },
        Remedy::TopUp { grant, meter, amount, price } => {
            let (price, currency) = price.map_or_else(Default::default, |(price, currency)| {
                (price.to_string(), currency.to_string())
            });
            v1::Remedy {
                name: grant.into(),
                meter: meter.into(),
                amount: fields::units(amount),
                price,
                currency,
                ..of(Kind::TopUp)
            }
        }
        Remedy::LowerUsage { meter } => v1::Remedy { meter: meter.into(), ..of(Kind::LowerUsage) },
        Remedy::ResizePool { pool, meter } => {
            v1::Remedy { name: pool.to_string(), meter: meter.into(), ..of(Kind::ResizePool) }
        }
        Remedy::ReactivateSubscription => of(Kind::ReactivateSubscription),
    }
}
