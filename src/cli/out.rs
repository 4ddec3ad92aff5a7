//! The one place that writes to standard output and, for people, to standard error.

use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, Write};

/// Writes lines to standard output. A reader that went away (`| head`) is no failure.
///
/// # Errors
/// When the output cannot be written.
pub fn lines<T: Display>(lines: impl IntoIterator<Item = T>) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line for people to standard error.
pub fn say(line: impl Display) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
