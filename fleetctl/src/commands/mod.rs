//! The command line: its words, what every verb shares, and the way from words to an exit code. Each verb is a file.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use fleet::Millis;
use fleet::outcome::exit;

use crate::failure::Failure;
use crate::output::screen::Accent;

mod abort;
mod ansible;
mod ansible_config;
mod ansible_inventory;
mod ansible_sources;
mod begin;
mod checks;
mod completion;
mod context;
mod deploy;
mod dev;
mod dev_break;
mod display;
mod drift;
mod exceptions;
mod gates;
mod history;
mod limit;
mod locks;
mod login;
mod narrow;
mod nodes;
mod nodes_import;
mod output_file;
mod plan;
mod release_source;
mod releases;
mod report;
mod rollback;
mod rollout;
mod session;
mod simulate;
mod start;
mod statements;
mod status;
mod tell;
mod tokens;
mod verify;
mod version;
mod wait;
mod watch;

pub use session::{Global, Session};

/// Deploys a release through a fleet of servers in segments, and proves what every server actually runs.
#[derive(Debug, Parser)]
#[command(
    name = "fleetctl",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Examples:
  fleetctl dev up --agents 4                       # a fleet on this machine
  fleetctl deploy examples/hello --segments 4      # deploy a directory with a fleet.yaml
  fleetctl drift                                   # what differs from what is desired

Exit codes: 0 done, 1 failed, 2 differences found, 3 failed and rolled back, 4 a human is needed,
5 aborted, 6 timed out, 7 done but for waived nodes, 64 usage, 65 bad input file,
69 controller unreachable, 75 busy, 77 not allowed, 78 local configuration or certificate,
130 detached."
)]
pub struct Cli {
    /// What every verb understands.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Deploy a release through the fleet, segment by segment, until every node is proven
    Deploy(deploy::Args),
    /// Show what a deployment would do, without doing it
    Plan(plan::Args),
    /// Show every service, or one deployment
    Status(status::Args),
    /// Wait for a deployment and end with its exit code
    Wait(wait::Args),
    /// Go back to what was held before
    Rollback(rollback::Args),
    /// End a running deployment
    Abort(abort::Args),
    /// Keep a running deployment from beginning anything new
    Pause(tell::Pause),
    /// Let a paused deployment go on
    Resume(tell::Resume),
    /// Let a deployment that has halted go on
    Promote(tell::Promote),
    /// Let a running deployment end without the proof of a node
    Waive(tell::Waive),
    /// Keep deployments of a service away for a while
    #[command(subcommand)]
    Locks(locks::Verb),
    /// List past deployments
    History(history::Args),
    /// Show where the fleet differs from what is desired
    Drift(drift::Args),
    /// Make every node prove, now, what it runs
    Verify(verify::Args),
    /// See, take away and check the signed statements of what was proven
    #[command(subcommand)]
    Statements(statements::Verb),
    /// See and change which nodes are expected
    #[command(subcommand)]
    Nodes(nodes::Verb),
    /// Make join tokens
    #[command(subcommand)]
    Tokens(tokens::Verb),
    /// See and upload releases
    #[command(subcommand)]
    Releases(releases::Verb),
    /// Show Ansible's files as this program reads them
    #[command(subcommand)]
    Ansible(ansible::Verb),
    /// Get an operator's certificate with a token
    Login(login::Args),
    /// Choose the fleet that commands talk to
    #[command(subcommand)]
    Context(context::Verb),
    /// Run a whole fleet on this machine
    #[command(subcommand)]
    Dev(dev::Verb),
    /// Play a story of a deployment in simulated time, without a fleet
    Simulate(simulate::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Show the versions of this program and of the controller
    Version(version::Args),
}

/// Runs the program; what it returns is the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(arguments))
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap writes help to standard output and errors to standard error; a closed pipe is no news here.
            let _closed = error.print();
            return exit_of_usage(error.kind());
        }
    };
    fleet_certs::install_crypto_provider();
    let session = Session::new(cli.global);
    session.start_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&session, &Failure::failed("cannot start").because(error)),
    };
    let code = match runtime.block_on(dispatch(&session, cli.verb)) {
        Ok(code) => code,
        Err(failure) => report(&session, &failure),
    };
    // A connection that hangs must not keep the program.
    runtime.shutdown_background();
    code
}

/// A duration that is not zero, for what zero would make useless; on the wire zero means "not said".
fn some_time(text: &str) -> Result<Millis, String> {
    match text.parse::<Millis>() {
        Ok(Millis(0)) => Err("it must be longer than nothing".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// clap's own code for a wrong command line is 2, which would read as "drift found".
fn exit_of_usage(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
        _ => exit::USAGE,
    }
}

fn report(session: &Session, failure: &Failure) -> u8 {
    let text = failure.to_text();
    let text = text
        .strip_prefix("error:")
        .map_or(text.clone(), |rest| format!("{}{rest}", session.screen.paint(Accent::Bad, "error:")));
    session.screen.insist(text.trim_end());
    failure.exit
}

async fn dispatch(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Deploy(args) => deploy::run(session, args).await,
        Verb::Plan(args) => plan::run(session, args).await,
        Verb::Status(args) => status::run(session, args).await,
        Verb::Wait(args) => wait::run(session, args).await,
        Verb::Rollback(args) => rollback::run(session, args).await,
        Verb::Abort(args) => abort::run(session, args).await,
        Verb::Pause(args) => tell::pause(session, args).await,
        Verb::Resume(args) => tell::resume(session, args).await,
        Verb::Promote(args) => tell::promote(session, args).await,
        Verb::Waive(args) => tell::waive(session, args).await,
        Verb::Locks(verb) => locks::run(session, verb).await,
        Verb::History(args) => history::run(session, args).await,
        Verb::Drift(args) => drift::run(session, args).await,
        Verb::Verify(args) => verify::run(session, args).await,
        Verb::Statements(verb) => statements::run(session, verb).await,
        Verb::Nodes(verb) => nodes::run(session, verb).await,
        Verb::Tokens(verb) => tokens::run(session, verb).await,
        Verb::Releases(verb) => releases::run(session, verb).await,
        Verb::Ansible(verb) => ansible::run(session, verb),
        Verb::Login(args) => login::run(session, args).await,
        Verb::Context(verb) => context::run(session, verb),
        Verb::Dev(verb) => dev::run(session, verb).await,
        Verb::Simulate(args) => simulate::run(session, args),
        Verb::Completion(args) => completion::run(session, args),
        Verb::Version(args) => version::run(session, args).await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_64_and_never_drift_found() {
        for line in [
            "fleetctl",
            "fleetctl drfit",
            "fleetctl deploy --segmets 4",
            "fleetctl deploy --segments 0",
            "fleetctl drift --max-age soon",
            "fleetctl nodes",
            "fleetctl wait",
            "fleetctl tokens create --ttl 0s",
            "fleetctl history -n 0",
            "fleetctl verify ",
            "fleetctl verify --statement x shop",
            "fleetctl verify --ca x",
            "fleetctl verify --report x.xml",
            "fleetctl deploy --report sarif=x",
            "fleetctl statements get 0",
            "fleetctl statements check --ca x",
            "fleetctl drift -s ",
            "fleetctl drift --kind flie",
            "fleetctl drift --ping hc-ping.com/x",
            "fleetctl drift --format nagios -t 0",
            "fleetctl rollback ",
            "fleetctl deploy --plan p-1 --segments 4",
            "fleetctl deploy --plan p-1 -l web",
            "fleetctl deploy --plan p-1 --test x",
            "fleetctl deploy --plan p-1 --waive n1=x",
            "fleetctl deploy --plan p-1 .",
            "fleetctl deploy --plan ",
            "fleetctl deploy --queue --supersede",
            "fleetctl deploy -i hosts.ini",
            "fleetctl deploy -l ",
            "fleetctl plan --list --keep",
            "fleetctl promote",
            "fleetctl waive d-1 n1",
            "fleetctl waive d-1 n1 --reason ",
            "fleetctl locks hold shop",
            "fleetctl ansible inventory -i hosts",
            "fleetctl ansible inventory --list --graph",
            "fleetctl ansible inventory --list web",
            "fleetctl ansible inventory --list --vars",
            "fleetctl ansible inventory --host h --limit web",
            "fleetctl nodes import -i hosts --label =",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(exit_of_usage(error.kind()), 64, "{line}");
        }
        // What is said about a plan that is carried out is no part of it.
        assert!(Cli::try_parse_from("fleetctl deploy --plan p-1 -m why -e prod --queue --detach".split(' ')).is_ok());
        for line in ["fleetctl --help", "fleetctl deploy -h", "fleetctl -V"] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(exit_of_usage(error.kind()), 0, "{line}");
        }
    }

    #[test]
    fn verbs_are_not_abbreviated_but_typos_get_a_suggestion() {
        assert!(Cli::try_parse_from(["fleetctl", "dep"]).is_err());
        assert!(Cli::try_parse_from(["fleetctl", "deplyo"]).unwrap_err().to_string().contains("'deploy'"));
    }

    #[test]
    fn every_verb_shows_examples_and_nothing_is_hidden() {
        fn visit(command: &clap::Command, path: &str) {
            assert!(!command.is_hide_set(), "{path} is hidden");
            for argument in command.get_arguments() {
                assert!(!argument.is_hide_set(), "{path}: --{} is hidden", argument.get_id());
            }
            // clap wraps at 100 columns, and what it wraps is no longer lined up.
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() < 100, "{path}: too long for clap: {line}");
            }
            let verbs: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
            if verbs.is_empty() {
                let examples = help.lines().filter(|l| l.trim_start().starts_with("fleetctl ")).count();
                assert!((2..=4).contains(&examples), "{path} has {examples} examples");
            }
            for verb in verbs {
                visit(verb, &format!("{path} {}", verb.get_name()));
            }
        }
        visit(&Cli::command(), "fleetctl");
    }

    /// An example that does not parse teaches the wrong thing.
    #[test]
    fn every_example_parses() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().map(str::trim_start).filter(|l| l.starts_with("fleetctl ")) {
                let line = line.split('#').next().unwrap_or_default();
                let line = line.split(" > ").next().unwrap_or_default();
                for part in line.split(" && ") {
                    // Every second piece between quotes is one word, as in a shell.
                    let words = part.split('"').enumerate().flat_map(|(i, piece)| {
                        if i % 2 == 1 { vec![piece] } else { piece.split_whitespace().collect() }
                    });
                    if let Err(error) = Cli::try_parse_from(words) {
                        panic!("{part}: {error}");
                    }
                }
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
