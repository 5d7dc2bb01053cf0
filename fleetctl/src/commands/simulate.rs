//! `fleetctl simulate`: plays a story of a deployment in simulated time, without a controller, and says whether it ended
//! as expected.

use std::io::Read as _;
use std::path::PathBuf;

use fleet::outcome::exit;

use super::session::Session;
use crate::failure::Failure;
use crate::output::format::Format;
use crate::simulate::{LARGEST_SCRIPT, parse, play};

/// The planning and the decisions are those of the controller; nodes, failures, delays, people and time are the script's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl simulate knight.story
  fleetctl simulate -                   # from standard input

A script, one statement on each line:
  fleet 8 nodes az=a,b                  # n1 to n8; the labels take turns
  service web 1.0.0 -> 2.0.0
  deploy --segments 4 --bake 10s        # the flags of deploy; several lines add up
  deploy --gate test --migrate bin/mig  # gates by their names; also --metric QUERY,
                                        # --approve-by N
  node n3 refuses after 3s              # or lies, silent, late 30s, falls-back after 8s, stuck,
                                        # unconfirmed, absent, slow 20s, crashes every 2s,
                                        # replays, answers after 2s, unhealthy, holds 1.1.0,
                                        # blocked \"disk full\"
  gate test fails \"2 of 9\" after 5s     # or passes, inconclusive, silent
  migration succeeds takes 10s          # or fails \"exit 1\", silent
  at 12s: lose n2 for 10s               # or crash n2 for 10s, break n2 for 10s, kill controller
                                        # for 5s, node n3 silent, pause by alice, resume,
                                        # promote [--retry], abort [--leave], supersede with
                                        # d-other, waive n3 \"disk\" for 24h, decommission n4
                                        # \"dead\", join n9 [holding 1.0.0], gate test passes,
                                        # migration succeeds
  run until finished                    # or run 60s; several add up
  expect outcome rolled-back            # or exit 3, n3 holds 1.0.0, n3,n4 is failed, fact
                                        # \"text\", never \"text\", order \"first\" then \"second\",
                                        # said \"text\", waiting \"text\" [at 14s], serving at least
                                        # 6, migration runs 1

Exit codes: 0 everything expected holds, 1 something does not, 65 the script is wrong.")]
pub struct Args {
    /// The script; - for standard input
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
}

pub(super) fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    session.format(&[Format::Table], "simulate")?;
    let text = read(&args.script)?;
    let story = parse(&args.script, &text).map_err(|error| {
        Failure::data(format!("{}:{}: {}", error.file.display(), error.line, error.what)).help(error.help)
    })?;
    let played = play(&story);
    session.screen.out(&played.transcript);
    if played.unmet > 0 {
        return Err(Failure::failed(format!("{} of what was expected does not hold", played.unmet)));
    }
    Ok(exit::OK)
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::data(format!("cannot read '{}'", path.display()))
            .because(error)
            .help("name a script: fleetctl simulate -h")
    };
    let mut text = String::new();
    // One byte more than may be, so that too much is noticed and no more is read.
    let most = LARGEST_SCRIPT as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(most).read_to_string(&mut text).map_err(unreadable)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    /// An example that is not understood teaches the wrong thing.
    #[test]
    fn the_script_in_the_help_is_a_story_that_holds() {
        let cli = super::super::Cli::command();
        let help = cli.find_subcommand("simulate").unwrap().get_after_help().unwrap().to_string();
        let script: Vec<&str> = help
            .lines()
            .skip_while(|line| !line.starts_with("A script"))
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .collect();
        assert!(script.len() > 12, "{help}");
        let story = crate::simulate::parse("help".as_ref(), &script.join("\n")).unwrap();
        let played = crate::simulate::play(&story);
        assert_eq!(played.unmet, 0, "{}", played.transcript);
    }
}
