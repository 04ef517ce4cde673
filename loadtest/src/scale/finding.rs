//! One figure of a sidecar by itself, and what was aimed at.

use serde::Serialize;

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub what: String,
    /// In words; empty where the figure is for comparison.
    pub aim: String,
    pub found: String,
    pub verdict: Verdict,
}

/// What became of an aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    /// It could not be measured; `found` says why.
    NotMeasured,
    /// There was none.
    None,
}

impl Finding {
    /// A figure for comparison.
    pub fn new(what: impl Into<String>, found: impl Into<String>) -> Self {
        let (what, found) = (what.into(), found.into());
        Self { what, aim: String::new(), found, verdict: Verdict::None }
    }

    /// It was aimed at, in words, and met or missed.
    #[must_use]
    pub fn aimed(self, aim: impl Into<String>, is_met: bool) -> Self {
        let verdict = if is_met { Verdict::Met } else { Verdict::Missed };
        Self { aim: aim.into(), verdict, ..self }
    }

    /// What was aimed at could not be measured, because `why`.
    pub fn not_measured(
        what: impl Into<String>,
        aim: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let verdict = Verdict::NotMeasured;
        Self { what: what.into(), aim: aim.into(), found: why.into(), verdict }
    }
}

/// A table of them; empty when there are none.
pub fn table(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut text = String::from("| | aim | found | |\n|---|---|---|---|\n");
    for Finding { what, aim, found, verdict } in findings {
        let verdict = match verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::NotMeasured => "**not measured**",
            Verdict::None => "",
        };
        text += &format!("| {what} | {aim} | {found} | {verdict} |\n");
    }
    text
}

/// A number as people read it: 1000000 is 1,000,000.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_aimed_at_what_was_found_and_what_became_of_it() {
        let rows = [
            Finding::new("a", "1"),
            Finding::new("b", "2").aimed("≤ 1", false),
            Finding::not_measured("c", "≤ 1", "refused"),
        ];
        let table = table(&rows);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| a |  | 1 |  |",
                "| b | ≤ 1 | 2 | **missed** |",
                "| c | ≤ 1 | refused | **not measured** |",
            ]
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 999, 1_000, 1_000_000].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "1,000,000"]);
    }
}
