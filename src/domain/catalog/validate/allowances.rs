use super::{findings::Findings, prices};
use crate::domain::{
    catalog::{
        allowances::{EmergencyRule, GrantDef, GrantKind, PoolDef},
        definition::CatalogDefinition,
        field_path::FieldPath,
        meters::MeterDef,
        plans::{EnforcementDef, LimitDef, PlanDef},
        prices::RecurringPrice,
    },
    ids::{MeterName, PlanName},
    meter::MeterKind,
};

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    addons(catalog, &root.key("addons"), findings);
    let grants = root.key("grants");
    findings.unique(&grants, "name", catalog.grants.iter().map(|grant| grant.name.as_str()));
    for (index, grant) in catalog.grants.iter().enumerate() {
        one_grant(catalog, grant, &grants.item(index), findings);
    }
    let pools = root.key("pools");
    findings.unique(&pools, "name", catalog.pools.iter().map(|pool| pool.name.as_str()));
    for (index, pool) in catalog.pools.iter().enumerate() {
        one_pool(catalog, pool, &pools.item(index), findings);
    }
    for (index, plan) in catalog.plans.iter().enumerate() {
        let rules = root.key("plans").item(index).key("emergency");
        findings.unique(&rules, "name", plan.emergency.iter().map(|rule| rule.name.as_str()));
        for (index, rule) in plan.emergency.iter().enumerate() {
            emergency(catalog, plan, rule, &rules.item(index), findings);
        }
    }
}

fn addons(catalog: &CatalogDefinition, list: &FieldPath, findings: &mut Findings) {
    findings.unique(list, "name", catalog.addons.iter().map(|addon| addon.name.as_str()));
    for (index, addon) in catalog.addons.iter().enumerate() {
        let path = list.item(index);
        let meter = meter(catalog, &addon.meter, &path, findings);
        findings.at_least_one(path.key("adds"), addon.adds.get());
        recurring_price(catalog, &addon.price, &path, findings);
        if let Some(most) = addon.max_pieces {
            findings.at_least_one(path.key("max_pieces"), most.into());
        }
        let raises = |plan: &PlanDef| {
            plan.limits.get(&addon.meter).is_some_and(|limit| limit.limit.get().is_some())
        };
        plans_with(catalog, &addon.plans, &path, "limit", meter.map(|_| &raises as _), findings);
    }
}

fn one_grant(
    catalog: &CatalogDefinition,
    grant: &GrantDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let meter = granted_meter(catalog, &grant.meter, path, findings);
    let is_recurring = grant.kind == GrantKind::Recurring;
    if is_recurring && meter.is_some_and(|meter| meter.kind == MeterKind::Level) {
        findings.add(
            path.key("kind"),
            format!("is recurring, and {} is a level, which never starts again", grant.meter),
            "set kind: top_up: what it gives stays until it expires",
        );
    }
    findings.at_least_one(path.key("amount"), grant.amount.get());
    findings.price(path.key("price"), grant.price, catalog.currency);
    if grant.kind == GrantKind::Promotional && grant.price.is_some() {
        findings.add(path.key("price"), "is on a promotional grant", "remove it: it is free");
    }
    if !is_recurring {
        let fields =
            [("every", grant.every.is_some()), ("rollover_cap", grant.rollover_cap.is_some())];
        for (field, _) in fields.iter().filter(|(_, given)| *given) {
            findings.add(
                path.key(*field),
                "is only for recurring grants",
                "remove it, or set kind: recurring",
            );
        }
    }
    plans_with(catalog, &grant.plans, path, "name", None, findings);
}

fn one_pool(
    catalog: &CatalogDefinition,
    pool: &PoolDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let known = meter(catalog, &pool.meter, path, findings);
    findings.at_least_one(path.key("size"), pool.size.get());
    if let Some(price) = &pool.price {
        recurring_price(catalog, price, path, findings);
    }
    if let (Some(overage), Some(meter)) = (&pool.overage, known) {
        prices::usage_price(catalog, meter, overage, &path.key("overage"), findings);
    }
    if pool.plans.is_empty() {
        findings.add(path.key("plans"), "is empty", "name the plans that can have the pool");
    }
    let names = |plan: &PlanDef| plan.limits.contains_key(&pool.meter);
    plans_with(catalog, &pool.plans, path, "name", known.map(|_| &names as _), findings);
    if let Some(most) = pool.max_members {
        findings.at_least_one(path.key("max_members"), most.into());
    }
    let classes = path.key("priorities");
    findings.unique(&classes, "name", pool.priorities.iter().map(|class| class.name.as_str()));
    let kept: rust_decimal::Decimal =
        pool.priorities.iter().map(|class| class.keeps_back_percent.get()).sum();
    if kept > rust_decimal::Decimal::ONE_HUNDRED {
        findings.add(
            classes,
            format!("keep back {kept} percent in all"),
            "keep back at most 100 percent",
        );
    }
}

fn emergency(
    catalog: &CatalogDefinition,
    plan: &PlanDef,
    rule: &EmergencyRule,
    path: &FieldPath,
    findings: &mut Findings,
) {
    if let Some(meter) = granted_meter(catalog, &rule.meter, path, findings) {
        prices::usage_price(catalog, meter, &rule.price, &path.key("price"), findings);
        let runs_out = |limit: &LimitDef| {
            let is_hard = limit.enforcement == EnforcementDef::Hard || limit.hard_cap.is_some();
            is_hard && limit.limit.get().is_some()
        };
        if !plan.limits.get(&rule.meter).is_some_and(runs_out) {
            findings.add(
                path.key("meter"),
                format!("{} never runs out on the plan {}", rule.meter, plan.name),
                "name a meter with a hard limit or a hard cap",
            );
        }
    }
    findings.at_least_one(path.key("amount"), rule.amount.get());
    findings.at_least_one(path.key("times"), rule.times.into());
    for (index, name) in rule.operations.iter().enumerate() {
        let path = path.key("operations").item(index);
        let names = catalog.operations.iter().map(|operation| operation.name.as_str());
        findings.known(path.clone(), "operation", name.as_str(), names);
        let operation = catalog.operations.iter().find(|operation| operation.name == *name);
        if operation.is_some_and(|operation| !operation.critical) {
            findings.add(path, "is not critical", "set critical: true on the operation");
        }
    }
    if rule.operations.is_empty() && !catalog.operations.iter().any(|one| one.critical) {
        findings.add(
            path.key("operations"),
            "is missing, and no operation of the catalog is critical",
            "set critical: true on the operations that the rule serves",
        );
    }
}

fn meter<'a>(
    catalog: &'a CatalogDefinition,
    name: &MeterName,
    path: &FieldPath,
    findings: &mut Findings,
) -> Option<&'a MeterDef> {
    let names = catalog.meters.iter().map(|meter| meter.name.as_str());
    findings.known(path.key("meter"), "meter", name.as_str(), names);
    let meter = catalog.meters.iter().find(|meter| meter.name == *name)?;
    if meter.kind == MeterKind::Static {
        findings.add(path.key("meter"), "is static: nothing is used of it", "name another meter");
    }
    Some(meter)
}

/// The meter of what gives grants. A grant adds to what may be added up; a largest or latest value, or
/// a number of distinct ones, has nothing to add it to.
fn granted_meter<'a>(
    catalog: &'a CatalogDefinition,
    name: &MeterName,
    path: &FieldPath,
    findings: &mut Findings,
) -> Option<&'a MeterDef> {
    let meter = meter(catalog, name, path, findings)?;
    if meter.kind != MeterKind::Static && !meter.compile().is_summed() {
        findings.add(
            path.key("meter"),
            format!("{name} is not added up, so that nothing of it can be granted"),
            "name a meter with the aggregation sum or count",
        );
    }
    Some(meter)
}

/// Plans of a list must exist, and `hold` what it is about.
fn plans_with(
    catalog: &CatalogDefinition,
    plans: &[PlanName],
    path: &FieldPath,
    verb: &str,
    hold: Option<&dyn Fn(&PlanDef) -> bool>,
    findings: &mut Findings,
) {
    for (index, name) in plans.iter().enumerate() {
        let path = path.key("plans").item(index);
        let names = catalog.plans.iter().map(|plan| plan.name.as_str());
        findings.known(path.clone(), "plan", name.as_str(), names);
        let plan = catalog.plans.iter().find(|plan| plan.name == *name);
        if let (Some(plan), Some(hold)) = (plan, hold)
            && !hold(plan)
        {
            findings.add(
                path,
                format!("the plan {name} does not {verb} the meter"),
                "remove the plan here, or add the meter to its limits",
            );
        }
    }
}

fn recurring_price(
    catalog: &CatalogDefinition,
    price: &RecurringPrice,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let path = path.key("price");
    findings.price(path.key("monthly"), Some(price.monthly), catalog.currency);
    findings.price(path.key("yearly"), price.yearly, catalog.currency);
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::Catalog;

    /// What is told of a catalog whose plan has an emergency rule on `meter`, and a grant on it.
    fn told(meter: &str) -> Vec<String> {
        let text = format!(
            "\
catalog: shop
currency: USD
meters:
  - {{ name: calls, kind: counter, aggregation: count, unit: call }}
  - {{ name: spare, kind: counter, unit: call }}
  - {{ name: largest, kind: counter, aggregation: max, unit: byte }}
  - {{ name: stored, kind: level, aggregation: last, unit: byte }}
  - {{ name: visitors, kind: counter, aggregation: distinct_count, distinct_property: who, unit: visitor }}
  - {{ name: kept, kind: static, unit: day }}
operations:
  - {{ name: rescue, meters: [calls], critical: true }}
plans:
  - name: small
    prices: {{ monthly: 1 }}
    limits:
      calls: 9
      spare: {{ limit: 9, enforcement: soft }}
      largest: 9
      stored: 9
      visitors: 9
      kept: 9
    emergency:
      - {{ name: more, meter: {meter}, amount: 5, price: {{ rate: 1 }} }}
grants:
  - {{ name: pack, kind: top_up, meter: {meter}, amount: 5 }}
"
        );
        let errors = Catalog::parse("shop.yaml", &text).map_or_else(|errors| errors, |_| vec![]);
        errors.iter().map(|error| format!("{}: {}", error.field, error.problem)).collect()
    }

    #[test]
    fn only_what_is_added_up_can_be_granted() {
        assert_eq!(told("calls"), [""; 0]);
        for meter in ["largest", "stored", "visitors"] {
            let problem = format!("{meter} is not added up, so that nothing of it can be granted");
            let fields = ["plans[small].emergency[more].meter", "grants[pack].meter"];
            assert_eq!(told(meter), fields.map(|field| format!("{field}: {problem}")));
        }
        let problem = "is static: nothing is used of it";
        assert!(told("kept").contains(&format!("plans[small].emergency[more].meter: {problem}")));
    }

    #[test]
    fn emergency_usage_of_what_never_runs_out_is_refused() {
        let problem = "spare never runs out on the plan small";
        assert_eq!(told("spare"), [format!("plans[small].emergency[more].meter: {problem}")]);
    }
}
