//! `fleetctl wait`: for a deployment that was started elsewhere or left.

use std::str::FromStr;

use fleet_proto::v1;

use super::gates::Tests;
use super::session::Session;
use super::watch::{Until, watch};
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::format::Format;

/// Ends with the deployment's own exit code; a controller that goes away meanwhile is waited for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl wait d-7k2m4
  fleetctl wait d-7k2m4 --for segment=1 --timeout 10m
  fleetctl wait d-7k2m4 --for promotable && fleetctl promote d-7k2m4
  fleetctl wait d-7k2m4 --run-tests        # in the place of the fleetctl that started it")]
pub struct Args {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// done, promotable (it has halted until a person promotes it), or segment=N
    #[arg(long = "for", value_name = "WHAT", default_value = "done")]
    until: Until,
    /// Run the tests of its gates here, in this directory, as the fleetctl that started it would
    #[arg(long)]
    run_tests: bool,
}

impl FromStr for Until {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "done" => Ok(Self::Done),
            None if text == "promotable" => Ok(Self::Promotable),
            Some(("segment", n)) => n
                .parse()
                .ok()
                .filter(|&n| n > 0)
                .map(Self::Segment)
                .ok_or_else(|| format!("'{n}' is not a segment's number; they begin with 1")),
            _ => Err(format!("'{text}' is not something to wait for: use done, promotable or segment=N")),
        }
    }
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl], "wait")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let deployment =
        answer(CALL_DEADLINE, client.get_deployment(v1::GetDeploymentRequest { deployment: args.deployment })).await?;
    if let Until::Segment(n) = args.until
        && usize::try_from(n).is_ok_and(|n| n > deployment.segments.len())
        // What is queued is not cut yet.
        && !deployment.segments.is_empty()
    {
        return Err(Failure::usage(format!("{} has only {} segments", deployment.id, deployment.segments.len())));
    }
    let tests = if args.run_tests { Tests::Here(".".into()) } else { Tests::Elsewhere };
    watch(session, &controller, client, deployment, args.until, tests, format).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_waited_for() {
        assert_eq!("done".parse(), Ok(Until::Done));
        assert_eq!("segment=2".parse(), Ok(Until::Segment(2)));
        assert_eq!("promotable".parse(), Ok(Until::Promotable));
        for bad in ["", "segment", "segment=0", "segment=x", "promoted"] {
            assert!(bad.parse::<Until>().is_err(), "{bad}");
        }
    }
}
