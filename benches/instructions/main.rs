//! Instructions of the paths of a check, decoding of the request and encoding of the answer
//! included, beside the figures that are committed: `make instructions`.
//!
//! Unlike time they are the same on a busy machine and on a quiet one, so that they can be part of
//! the tests: a path that grew by more than [`figures::GROWTH_MAX_PERCENT`] fails. Each path is
//! called in a process of its own under callgrind, which counts what the calling thread does
//! within [`counted::counted_call`] and nothing else. `BLESS=1` writes the figures anew.

use std::process::ExitCode;

mod counted;
mod figures;
#[path = "../lone_engine/mod.rs"]
mod lone_engine;
mod paths;

// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What this program is called with, and a path's name, to make that path's calls.
const CALLS_OF: &str = "calls-of";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [CALLS_OF, name] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        paths::call(name);
        return ExitCode::SUCCESS;
    }
    if !counted::is_possible() {
        println!("NOT COUNTED: instructions need Valgrind, and figures are those of x86-64");
        return ExitCode::SUCCESS;
    }
    let found = paths::NAMES.map(|name| (name, counted::instructions_of(name)));
    figures::judge(&found)
}
