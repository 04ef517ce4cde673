use super::{findings::Findings, meters::unknown_unit};
use crate::domain::catalog::{
    definition::CatalogDefinition,
    field_path::FieldPath,
    meters::MeterDef,
    prices::{PriceTier, UsagePrice},
};

/// A price of usage on `meter`.
pub(super) fn usage_price(
    catalog: &CatalogDefinition,
    meter: &MeterDef,
    price: &UsagePrice,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let models = [
        ("rate", price.rate.is_some()),
        ("graduated", price.graduated.is_some()),
        ("volume", price.volume.is_some()),
        ("package", price.package.is_some()),
    ];
    let given: Vec<_> =
        models.iter().filter(|(_, given)| *given).map(|(model, _)| *model).collect();
    match given.as_slice() {
        [_] => {}
        [] => findings.add(
            path.clone(),
            "names no price",
            "give one of rate, graduated, volume, package",
        ),
        [_, second, ..] => findings.add(
            path.key(*second),
            format!("is one price of several ({})", given.join(", ")),
            "keep one of them",
        ),
    }
    if let Some(per) = &price.per
        && meter.unit_size(per).is_none()
    {
        unknown_unit(meter, per, path.key("per"), findings);
    }
    for (field, list) in [("graduated", &price.graduated), ("volume", &price.volume)] {
        if let Some(list) = list {
            tiers(catalog, list, &path.key(field), findings);
        }
    }
    if let Some(package) = &price.package {
        let path = path.key("package");
        findings.at_least_one(path.key("size"), package.size.get());
        findings.price(path.key("price"), Some(package.price), catalog.currency);
    }
    by_property(meter, price, path, findings);
}

fn tiers(
    catalog: &CatalogDefinition,
    tiers: &[PriceTier],
    path: &FieldPath,
    findings: &mut Findings,
) {
    let Some((_, bounded)) = tiers.split_last() else {
        findings.add(path.clone(), "is empty", "give at least one tier");
        return;
    };
    let mut before = 0;
    for (index, tier) in tiers.iter().enumerate() {
        let item = path.item(index);
        findings.price(item.key("flat"), tier.flat, catalog.currency);
        match tier.up_to {
            None if index < bounded.len() => findings.add(
                item.key("up_to"),
                "is missing on a tier that others follow",
                "give the last unit of this tier",
            ),
            Some(_) if index == bounded.len() => findings.add(
                item.key("up_to"),
                "ends the last tier, so that more usage has no price",
                "remove it from the last tier",
            ),
            Some(up_to) if up_to.get() <= before => findings.add(
                item.key("up_to"),
                format!("is {}, not beyond the tier before ({before})", up_to.get()),
                "put tiers in ascending order",
            ),
            Some(up_to) => before = up_to.get(),
            None => {}
        }
    }
}

fn by_property(meter: &MeterDef, price: &UsagePrice, path: &FieldPath, findings: &mut Findings) {
    let Some(by) = &price.by_property else { return };
    let path = path.key("by_property");
    if price.rate.is_none() {
        findings.add(
            path.clone(),
            "needs a plain rate for all other values",
            "add rate, or remove it",
        );
    }
    if !meter.group_by.contains(&by.property) {
        findings.add(
            path.key("property"),
            format!("{:?} is not what the meter {} groups by", by.property, meter.name),
            "add it to the meter's group_by",
        );
    }
}
