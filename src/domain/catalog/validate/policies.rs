use super::findings::Findings;
use crate::domain::catalog::{
    definition::CatalogDefinition,
    dunning::{DunningAction, DunningPolicy},
    field_path::FieldPath,
    policies::{ExperimentDef, MilestoneDef},
};

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let policies = root.key("dunning");
    findings.unique(&policies, "name", catalog.dunning.iter().map(|policy| policy.name.as_str()));
    for (index, policy) in catalog.dunning.iter().enumerate() {
        dunning(policy, &policies.item(index), findings);
    }
    subscriptions(catalog, root, findings);
    let metrics = root.key("success_metrics");
    findings.unique(&metrics, "name", catalog.success_metrics.iter().map(|one| one.name.as_str()));
    let milestones = root.key("milestones");
    findings.unique(&milestones, "name", catalog.milestones.iter().map(|one| one.name.as_str()));
    for (index, award) in catalog.milestones.iter().enumerate() {
        milestone(catalog, award, &milestones.item(index), findings);
    }
    let experiments = root.key("experiments");
    findings.unique(&experiments, "name", catalog.experiments.iter().map(|one| one.name.as_str()));
    for (index, one) in catalog.experiments.iter().enumerate() {
        experiment(catalog, one, &experiments.item(index), findings);
    }
    for (job, schedule) in &catalog.jobs.schedules {
        if schedule.split_whitespace().count() != 5 || schedule.parse::<croner::Cron>().is_err() {
            // Every variant of a unit enum serialises to its name.
            let name = serde_json::to_value(job).ok();
            let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
            findings.add(
                root.key("jobs").key("schedules").key(name),
                format!("{schedule:?} is not a cron expression"),
                "give minute, hour, day, month and weekday, such as 0 8 * * *",
            );
        }
    }
    dates(catalog, root, findings);
}

fn dunning(policy: &DunningPolicy, path: &FieldPath, findings: &mut Findings) {
    let steps = path.key("steps");
    if policy.steps.is_empty() {
        findings.add(steps.clone(), "is empty", "give at least one step");
    }
    let days: Vec<_> = policy.steps.iter().map(|step| step.day).collect();
    findings.ascending(&steps, "day", &days);
    let mut closed = false;
    for (index, step) in policy.steps.iter().enumerate() {
        let item = steps.item(index);
        findings.at_least_one(item.key("day"), step.day.into());
        if step.actions.is_empty() && step.notice.is_none() {
            findings.add(item.clone(), "does nothing", "give actions, a notice or both");
        }
        if closed {
            findings.add(item, "comes after the subscription was closed", "remove it");
        }
        closed |= step.actions.contains(&DunningAction::Close);
    }
}

fn subscriptions(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let reminders = [
        ("trials", &catalog.trials.reminder_days_before),
        ("renewals", &catalog.renewals.reminder_days_before),
    ];
    for (policy, days) in reminders {
        let list = root.key(policy).key("reminder_days_before");
        for (index, day) in days.iter().enumerate() {
            findings.at_least_one(list.item(index), (*day).into());
            if days[..index].contains(day) {
                findings.add(list.item(index), format!("{day} is named twice"), "remove one");
            }
        }
    }
    let alerts = root.key("alerts").key("thresholds");
    findings.ascending_items(&alerts, &catalog.alerts.thresholds);
    let recommendations = &catalog.recommendations;
    if recommendations.downgrade_below_percent >= recommendations.upgrade_above_percent {
        findings.add(
            root.key("recommendations").key("downgrade_below_percent"),
            "is not below upgrade_above_percent",
            "leave room between the two, such as 30 and 80",
        );
    }
}

fn milestone(
    catalog: &CatalogDefinition,
    award: &MilestoneDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let by_metric = award.total.is_some() || award.streak_days.is_some();
    let sound = match (award.tenure_months, &award.metric) {
        (Some(_), None) => !by_metric && award.at_least.is_none(),
        (None, Some(_)) if award.total.is_some() => {
            award.streak_days.is_none() && award.at_least.is_none()
        }
        (None, Some(_)) => award.streak_days.is_some() && award.at_least.is_some(),
        _ => false,
    };
    if !sound {
        findings.add(
            path.clone(),
            "does not say in one way what it is given for",
            "give tenure_months; or metric and total; or metric, streak_days and at_least",
        );
    }
    if let Some(metric) = &award.metric {
        let metrics = catalog.success_metrics.iter().map(|metric| metric.name.as_str());
        findings.known(path.key("metric"), "success metric", metric.as_str(), metrics);
    }
}

fn experiment(
    catalog: &CatalogDefinition,
    experiment: &ExperimentDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let plans = catalog.plans.iter().map(|plan| plan.name.as_str());
    findings.known(path.key("plan"), "plan", experiment.plan.as_str(), plans);
    if experiment.through < experiment.from {
        findings.add(path.key("through"), "is before the first day", "give the last day");
    }
    let variants = path.key("variants");
    if experiment.variants.len() < 2 {
        findings.add(variants.clone(), "has nothing to compare", "give at least two variants");
    }
    findings.unique(&variants, "name", experiment.variants.iter().map(|one| one.name.as_str()));
    for (index, variant) in experiment.variants.iter().enumerate() {
        let path = variants.item(index);
        findings.at_least_one(path.key("weight"), variant.weight.into());
        findings.price(path.key("monthly"), variant.monthly, catalog.currency);
        for (index, addon) in variant.bundled_addons.iter().enumerate() {
            let addons = catalog.addons.iter().map(|addon| addon.name.as_str());
            let path = path.key("bundled_addons").item(index);
            findings.known(path, "add-on", addon.as_str(), addons);
        }
    }
}

fn dates(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let Some(dates) = &catalog.dates else { return };
    let rest = ["YYYY", "DD", "MM", "HH", "mm", "ss"]
        .iter()
        .fold(dates.format.clone(), |rest, part| rest.replacen(part, "", 1));
    if rest.chars().any(char::is_alphanumeric) {
        findings.add(
            root.key("dates").key("format"),
            format!("{:?} has parts that are not known", dates.format),
            "use DD, MM, YYYY, HH, mm and ss, each once, such as DD/MM/YYYY HH:mm:ss",
        );
    }
}
