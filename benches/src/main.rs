//! `fleet-bench`: reads the command line, runs the measurement, prints its report.

use std::io::Write as _;
use std::process::ExitCode;

use fleet_benches::arguments::{Asked, Benchmark, Format, USAGE, read};
use fleet_benches::interrupt::Interrupted;
use fleet_benches::{b1, b7, b8, b9, b10, engine, interrupt, inventory, looking, report};

/// Exit code for a wrong command line, as in `sysexits.h`.
const EXIT_USAGE: u8 = 64;
/// Exit code after Ctrl-C, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == looking::WORD).is_some() {
        // Started by a measurement: see `looking`.
        return match looking::answer(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("fleet-bench: looking: {error:#}"));
                ExitCode::FAILURE
            }
        };
    }
    let asked = match read(words) {
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
    let measured =
        interrupt::listen().and_then(|()| match which {
            Benchmark::B1(wish) => b1::run(&wish, earnest, &say).map(|it| match format {
                Format::Table => report::table(&it),
                Format::Json => report::json(&it),
            }),
            Benchmark::B9 { tamperings, files, seed } => b9::run(&b9::Wish { tamperings, files, seed }, earnest, &say)
                .map(|it| match format {
                    Format::Table => b9::report::table(&it),
                    Format::Json => b9::report::json(&it),
                }),
            Benchmark::B10 { seconds, deployments } => b10::run(&b10::Wish { seconds, deployments }, earnest, &say)
                .map(|it| match format {
                    Format::Table => b10::report::table(&it),
                    Format::Json => b10::report::json(&it),
                }),
            Benchmark::B7 { runs } => b7::run(runs, earnest, &say).map(|it| match format {
                Format::Table => b7::table(&it),
                Format::Json => b7::json(&it),
            }),
            Benchmark::B8 { runs } => b8::run(runs, earnest, &say).map(|it| match format {
                Format::Table => b8::table(&it),
                Format::Json => b8::json(&it),
            }),
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
