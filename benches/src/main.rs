//! `fleet-bench`: reads the command line, runs the measurement, prints its report.

use std::io::Write as _;
use std::process::ExitCode;

use fleet_benches::arguments::{Asked, Format, USAGE, read};
use fleet_benches::interrupt::Interrupted;
use fleet_benches::{b1, engine, interrupt, inventory, report};

/// Exit code for a wrong command line, as in `sysexits.h`.
const EXIT_USAGE: u8 = 64;
/// Exit code after Ctrl-C, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let asked = match read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            say(&format!("fleet-bench: {error}\n\n{USAGE}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let measured = match asked {
        Asked::Help => {
            print(USAGE);
            return ExitCode::SUCCESS;
        }
        Asked::B1 { wish, format } => interrupt::listen().and_then(|()| b1::run(&wish, &say)).map(|it| match format {
            Format::Table => report::table(&it),
            Format::Json => report::json(&it),
        }),
        Asked::Inventory { runs, format } => {
            interrupt::listen().and_then(|()| inventory::run(runs, &say)).map(|it| match format {
                Format::Table => inventory::table(&it),
                Format::Json => inventory::json(&it),
            })
        }
        Asked::Engine { runs, format } => {
            interrupt::listen().and_then(|()| engine::run(runs, &say)).map(|it| match format {
                Format::Table => engine::report::table(&it),
                Format::Json => engine::report::json(&it),
            })
        }
    };
    match measured {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<Interrupted>() => {
            say("fleet-bench: interrupted; everything it started was stopped and removed");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            say(&format!("fleet-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress and errors go to standard error, so that the report can be piped.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone wants no more.
    let _ = writeln!(out, "{}", text.trim_end());
}
