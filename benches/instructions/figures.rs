//! The figures that are committed, and what has become of them.

use std::{collections::BTreeMap, fmt::Write, fs, process::ExitCode};

use figment::{
    Figment,
    providers::{Format, Toml},
};

/// Beside this file's folder.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// How much a figure may grow before that is a failure. Compilers, C libraries and processors
/// differ by less.
pub const GROWTH_MAX_PERCENT: u64 = 10;

/// Prints what was found beside what is committed, and fails where it is too much; or commits it
/// (`BLESS=1`).
pub fn judge(found: &[(&str, u64)]) -> ExitCode {
    if std::env::var("BLESS").is_ok_and(|value| !value.is_empty() && value != "0") {
        fs::write(COMMITTED, toml(found)).expect("the file of the figures can be written");
        println!("{}", toml(found));
        return ExitCode::SUCCESS;
    }
    let committed = Figment::from(Toml::file(COMMITTED));
    let committed: BTreeMap<String, u64> = committed.extract().expect("a name and a number a line");
    let mut end = ExitCode::SUCCESS;
    for (name, found) in found {
        let verdict = verdict(committed.get(*name).copied(), *found);
        let before = committed.get(*name).map_or("-".to_owned(), u64::to_string);
        println!("{name:<56} {before:>8} -> {found:>8}  {}", told(verdict));
        if matches!(verdict, Verdict::Grown | Verdict::Unknown) {
            end = ExitCode::FAILURE;
        }
    }
    if end == ExitCode::FAILURE {
        let renew = "if that is meant, renew the figures with `make instructions BLESS=1`";
        println!("instructions: a path costs more than {COMMITTED} says; {renew}");
    }
    end
}

/// What has become of a figure.
#[derive(Clone, Copy)]
enum Verdict {
    /// None is committed.
    Unknown,
    Grown,
    Same,
    /// By so much that growth back to what is committed would be missed.
    Shrunk,
}

fn verdict(committed: Option<u64>, found: u64) -> Verdict {
    let Some(committed) = committed else { return Verdict::Unknown };
    match found * 100 {
        found if found > committed * (100 + GROWTH_MAX_PERCENT) => Verdict::Grown,
        found if found < committed * (100 - GROWTH_MAX_PERCENT) => Verdict::Shrunk,
        _ => Verdict::Same,
    }
}

fn told(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "NO FIGURE",
        Verdict::Grown => "GROWN",
        Verdict::Same => "",
        Verdict::Shrunk => "less: renew the figures, or growth back to them is missed",
    }
}

fn toml(figures: &[(&str, u64)]) -> String {
    let mut text = String::from(
        "# Instructions of one call, on x86-64. Written by `make instructions BLESS=1`.\n",
    );
    for (name, instructions) in figures {
        // A String can be written to without end.
        let _ = writeln!(text, "{name:?} = {instructions}");
    }
    text
}
