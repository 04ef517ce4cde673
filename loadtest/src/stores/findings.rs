//! What was measured, and how it is told.

/// What one part of the measurements found.
pub struct Part {
    pub title: &'static str,
    /// How it was measured, in sentences.
    pub how: String,
    pub aims: Vec<Aimed>,
    pub table: Table,
}

/// Something that was aimed at.
#[derive(Clone, Debug, PartialEq)]
pub struct Aimed {
    pub what: String,
    pub aim: Aim,
    pub found: f64,
}

/// What is aimed at, with the unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
}

/// All figures of a part.
#[derive(Default)]
pub struct Table {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Aimed {
    pub fn is_met(&self) -> bool {
        match self.aim {
            Aim::AtMost(most, _) => self.found <= most,
            Aim::AtLeast(least, _) => self.found >= least,
        }
    }

    fn row(&self) -> String {
        let aim = match self.aim {
            Aim::AtMost(most, unit) => format!("{unit} ≤ {}", figure(most)),
            Aim::AtLeast(least, unit) => format!("{unit} ≥ {}", figure(least)),
        };
        let met = if self.is_met() { "met" } else { "**missed**" };
        format!("| {} | {aim} | {} | {met} |\n", self.what, figure(self.found))
    }
}

impl Table {
    /// As Markdown; all columns but the first are figures.
    fn markdown(&self) -> String {
        let columns = self.head.len().saturating_sub(1);
        let head = self.head.join(" | ");
        let rule = "---:|".repeat(columns);
        let rows = self.rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
        format!("| {head} |\n|---|{rule}\n{}", rows.collect::<String>())
    }
}

/// The document's section: what was aimed at in all parts, then the figures of each.
pub fn section(parts: &[Part]) -> String {
    let mut text = String::from(
        "## The stores: what was aimed at\n\n| | aim | found | |\n|---|---|---:|---|\n",
    );
    for aimed in parts.iter().flat_map(|part| &part.aims) {
        text += &aimed.row();
    }
    for part in parts {
        text += &format!("\n## {}\n\n{}\n\n{}", part.title, part.how, part.table.markdown());
    }
    text
}

/// With as many digits as it takes to tell it from its neighbours.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (size >= 1.0 && value.fract() == 0.0) || size >= 1_000.0 => {
            format!("{value:.0}")
        }
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimed(aim: Aim, found: f64) -> Aimed {
        Aimed { what: "it".into(), aim, found }
    }

    #[test]
    fn what_is_aimed_at_is_met_at_the_bound_and_missed_beyond_it() {
        assert!(aimed(Aim::AtMost(1.0, "calls"), 1.0).is_met());
        assert!(!aimed(Aim::AtMost(1.0, "calls"), 1.01).is_met());
        assert!(aimed(Aim::AtLeast(0.8, "times"), 0.8).is_met());
        assert!(!aimed(Aim::AtLeast(0.8, "times"), 0.79).is_met());
        assert!(!aimed(Aim::AtLeast(0.8, "times"), f64::NAN).is_met(), "nothing was found");
    }

    #[test]
    fn a_section_tells_all_aims_first_and_then_all_figures() {
        let table = Table {
            head: vec!["", "a", "b"],
            rows: vec![vec!["x".into(), "1".into(), "2".into()]],
        };
        let part = |title, found| Part {
            title,
            how: "So.".into(),
            aims: vec![aimed(Aim::AtLeast(1e6, "events/s"), found)],
            table: Table { head: table.head.clone(), rows: table.rows.clone() },
        };
        let text = section(&[part("One", 2e6), part("Two", 999_999.0)]);
        let aims = "| it | events/s ≥ 1000000 | 2000000 | met |\n\
                    | it | events/s ≥ 1000000 | 999999 | **missed** |\n\n## One\n\nSo.\n\n\
                    |  | a | b |\n|---|---:|---:|\n| x | 1 | 2 |\n";
        assert!(text.contains(aims), "{text}");
    }

    #[test]
    fn a_figure_has_the_digits_that_matter() {
        let told = [0.0, 0.123, 1.0, 1.5, 12.34, 999.94, 1234.5].map(figure);
        assert_eq!(told, ["0", "0.12", "1", "1.50", "12.3", "999.9", "1234"]);
    }
}
