//! Standard output and standard error.

use std::io::{self, Write as _};

use crate::failure::Failure;

/// Writes text to standard output as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes a line to standard output.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Writes a line to standard error. That it cannot be written changes nothing.
pub(crate) fn error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
