//! The command line: what kubectl does.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a command; `arguments` are what follows the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = arguments.into_iter().count();
    ExitCode::FAILURE
}
