//! Printing to standard output, whose reader may go away (`| head`): that ends a command quietly, as
//! it does other tools, where `println!` would panic.

use std::{
    fmt,
    io::{self, Write},
};

/// What a shell shows for a tool that a closed pipe has ended: 128 and SIGPIPE's number.
const CLOSED_PIPE: i32 = 128 + 13;

/// Prints as `print!` does.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::print::print(format_args!($($text)*)) };
}

/// Prints as `println!` does.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::print::print(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {out, outln};

/// Writes `text`. Ends the process when nobody reads it any more, or when it cannot be written.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut output = io::stdout().lock();
    match output.write_fmt(text).and_then(|()| output.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(CLOSED_PIPE),
        Err(error) => {
            eprintln!("tollgate: cannot write to standard output: {error}");
            std::process::exit(1);
        }
    }
}

/// Writes a line that is only news: a process that has more to do than to print goes on without it.
pub(crate) fn news(line: &str) {
    // Whom the news was for is gone.
    let _ = writeln!(io::stdout(), "{line}");
}
