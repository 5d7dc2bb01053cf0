//! `fleet-bench`: reads the command line, runs the measurement, prints its report.

use std::io::Write as _;
use std::process::ExitCode;

use fleet_benches::arguments::{Asked, Benchmark, Format, USAGE, read};
use fleet_benches::interrupt::Interrupted;
use fleet_benches::{b1, b9, engine, interrupt, inventory, report};

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
    let (which, earnest, format) = match asked {
        Asked::Help => {
            print(USAGE);
            return ExitCode::SUCCESS;
        }
        Asked::Benchmark { which, earnest, format } => (which, earnest, format),
    };
    let measured = interrupt::listen().and_then(|()| match which {
        Benchmark::B1(wish) => b1::run(&wish, earnest, &say).map(|it| match format {
            Format::Table => report::table(&it),
            Format::Json => report::json(&it),
        }),
        Benchmark::B9 { tamperings, files, seed } => {
            b9::run(&b9::Wish { tamperings, files, seed }, earnest, &say).map(|it| match format {
                Format::Table => b9::report::table(&it),
                Format::Json => b9::report::json(&it),
            })
        }
        Benchmark::B7 { .. } | Benchmark::B8 { .. } | Benchmark::B10 { .. } => Err(anyhow::anyhow!("not yet")),
        Benchmark::Inventory { runs } => inventory::run(runs, &say).map(|it| match format {
            Format::Table => inventory::table(&it),
            Format::Json => inventory::json(&it),
        }),
        Benchmark::Engine { runs } => engine::run(runs, &say).map(|it| match format {
            Format::Table => engine::report::table(&it),
            Format::Json => engine::report::json(&it),
        }),
    });
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
