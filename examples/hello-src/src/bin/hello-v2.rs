//! Version 2.0.0 of the example service: works.

use std::process::ExitCode;

use hello::{Health, Version, serve};

fn main() -> ExitCode {
    serve(Version { number: "2.0.0", health: Health::Good })
}
