//! The shim by itself, as the product's hidden subcommand runs it: the tests start their pods with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_runtime::shim_main(std::env::args_os().skip(2))
}
