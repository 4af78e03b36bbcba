//! The `buildproxy` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    buildproxy::main()
}
