//! Version 3.0.0 of the example service: starts and listens, but is never healthy. A deployment of it must roll back.

use std::process::ExitCode;

use hello::{Health, Version, serve};

fn main() -> ExitCode {
    serve(Version {
        number: "3.0.0",
        health: Health::Broken { reason: "this release was made to fail its health check" },
    })
}
