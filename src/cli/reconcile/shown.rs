//! How a report is printed.

use serde_json::json;

use super::look::Report;
use crate::{
    cli::{
        print::{out, outln},
        table::table,
    },
    reconcile::difference::{Difference, Mending, Standing},
};

/// Prints the report: what differs and what moves, and the rest with `with_expected`.
pub(super) fn print(report: &Report, with_expected: bool, as_json: bool) -> anyhow::Result<()> {
    let is_shown = |row: &&Difference| with_expected || row.standing != Standing::Expected;
    let rows: Vec<&Difference> = report.rows.iter().filter(is_shown).collect();
    let not_compared = report.counters_looked_at.why_not();
    if as_json {
        let report = json!({
            "tenants": report.tenants,
            "counters": report.counters,
            "counters_compared": not_compared.is_none(),
            "counters_left_out": not_compared,
            "journals": report.journals,
            "mended": report.mended,
            "differences": report.differing,
            "in_flight": report.in_flight,
            "expected": report.expected,
            "rows": rows,
        });
        outln!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    if !rows.is_empty() {
        let head = [
            "", "compared", "tenant", "meter", "subject", "window", "what", "should", "is",
            "mending",
        ];
        out!("{}", table(&head, &rows.iter().map(|row| cells(row)).collect::<Vec<_>>()));
    }
    let Report { tenants, counters, journals, differing, mended, in_flight, expected, .. } = report;
    if let Some(why) = not_compared {
        outln!("NOT COMPARED: the shared counters: {why}");
    }
    outln!(
        "{tenants} tenants, {counters} shared counters and {journals} journals compared: {differing} \
         differences, {mended} of them mended"
    );
    if *in_flight > 0 {
        outln!(
            "{in_flight} figures still moved after the whole wait: look again when it is quieter"
        );
    }
    if *expected > 0 && !with_expected {
        outln!("{expected} figures are on their way as they should be; --all shows them");
    }
    Ok(())
}

fn cells(row: &Difference) -> Vec<String> {
    let standing = match row.standing {
        Standing::Differs => "differs",
        Standing::InFlight => "moves",
        Standing::Expected => "fine",
    };
    let place = &row.place;
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        standing.to_owned(),
        row.leg.to_string(),
        place.tenant.to_string(),
        text(place.meter.as_ref().map(ToString::to_string)),
        text(place.subject.as_ref().map(ToString::to_string)),
        text(place.window.map(|label| label.to_string())),
        row.what.clone(),
        format!("{} ({})", row.expected.says, row.expected.of),
        format!("{} ({})", row.found.says, row.found.of),
        match &row.mending {
            None => String::new(),
            Some(Mending::Mended) => "mended".to_owned(),
            Some(Mending::NotMended(why)) => format!("stands: {why}"),
        },
    ]
}
