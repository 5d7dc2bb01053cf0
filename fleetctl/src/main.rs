//! The program `fleetctl`: nothing but the way into the library, so that tests can take the same way.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetctl::commands::main(std::env::args_os())
}
