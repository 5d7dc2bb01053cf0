//! `fleetctl drift selftest`: does the alarm still fire? A decoy of old code is planted where a node volunteers, and must
//! be found in time. That it could not be tried is no success.

use std::time::Duration;

use fleet::outcome::exit;
use fleet::{Millis, NodeName};
use fleet_proto::v1;

use crate::client::answer;
use crate::commands::session::Session;
use crate::failure::Failure;
use crate::output::documents::{SelfTestReport, document};
use crate::output::drift::selftest_line;
use crate::output::format::Format;
use crate::output::screen::Verbosity;

/// What the controller gets on top of both halves of the test to put the answer together.
const GRACE: Duration = Duration::from_secs(15);

/// Plants a decoy: a process of old code that never executes an instruction, on a node whose agent.toml says
/// selftest = true. It must be found like any other old process, and its finding must be closed when it is gone.
/// Nobody is called for it: reports show the decoy apart from the findings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl drift selftest
  fleetctl drift selftest --node web-12 --deadline 10s -o json
  fleetctl drift selftest --quiet          # cron: prints only when the alarm is broken

Exit codes: 0 the alarm fired in time and fell silent again, 2 it did not, 1 UNKNOWN: no node
volunteers, or the test was interrupted, 75 another one is at work, 69 controller unreachable.")]
pub struct Args {
    /// Only this node [default: the volunteers take turns]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// How long the finding may take to come, and again to go
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = crate::commands::some_time)]
    deadline: Millis,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "drift selftest")?;
    let mut client = session.connect().await?;
    let request =
        v1::SelfTestRequest { node: args.node.map(String::from).unwrap_or_default(), deadline_ms: args.deadline.0 };
    let within = session.timeout().unwrap_or(args.deadline.to_std() * 2 + GRACE);
    let report = answer(within, client.self_test(request)).await?;
    let code = verdict(&report);
    match format {
        Format::Json => session.screen.out(&document("SelfTestReport", SelfTestReport::from(report))),
        _ if code == exit::OK && session.screen.verbosity == Verbosity::Quiet => {}
        _ => session.screen.out(&format!("{}\n  {}\n", selftest_line(&report, report.at_ms), report.detail)),
    }
    Ok(code)
}

/// Only what passed is a success; whatever word comes beside the known ones is not known.
fn verdict(report: &v1::SelfTestReport) -> u8 {
    match report.result.as_str() {
        "passed" => exit::OK,
        "failed" => exit::DIFFERENCES,
        _ => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passed_is_a_success() {
        for (result, code) in [("passed", 0), ("failed", 2), ("unknown", 1), ("running", 1), ("", 1)] {
            let report = v1::SelfTestReport { result: result.into(), ..v1::SelfTestReport::default() };
            assert_eq!(verdict(&report), code, "{result}");
        }
    }
}
