//! The flags that say how a deployment moves through the fleet, shared by `deploy`, `plan` and `rollback`, and the
//! request they make together with `fleet.yaml`. What is asked between segments is `checks`', who need not be proven
//! `exceptions`', which nodes `limit`'s.

use fleet::Millis;
use fleet::capacity::{MinHealthy, Parallel};
use fleet::deployment::{Budget, OnFailure};
use fleet::segments::{Canary, Segments};
use fleet::sequence::Sequence;
use fleet_proto::v1;

use super::checks::Checks;
use super::exceptions::Exceptions;
use super::limit::Limit;
use super::some_time;
use crate::service_file::DeployDefaults;
use crate::wishes::ConfirmWithin;

/// Segments where neither a flag nor `fleet.yaml` says how many: four, so that a bad release meets a quarter.
const SEGMENTS: &str = "4";
/// How long a node may take from its order to its proof.
const NODE_DEADLINE: Millis = Millis::from_secs(120);
/// How long a node that was absent at the start is waited for at the end.
const ABSENT_GRACE: Millis = Millis::from_secs(10);
/// How long an agent waits to be confirmed before it undoes: deploy-rs's `confirmTimeout`.
const CONFIRM: ConfirmWithin = ConfirmWithin(Millis::from_secs(30));

/// The names clap gives to the flags that a kept plan has fixed; a plan conflicts with all of them.
pub const FIXED_BY_A_PLAN: [&str; 4] = ["Movement", "Checks", "Exceptions", "Limit"];

/// Everything that can be wished of a deployment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Rollout {
    /// The environment: staging, prod
    #[arg(short, long = "env", value_name = "NAME", env = "FLEETCTL_ENV", hide_env_values = true)]
    #[arg(default_value = "", hide_default_value = true)]
    pub environment: String,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub message: String,
    #[command(flatten)]
    movement: Movement,
    #[command(flatten)]
    checks: Checks,
    #[command(flatten)]
    exceptions: Exceptions,
    /// Which nodes.
    #[command(flatten)]
    pub limit: Limit,
}

/// How to move.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "How to move")]
pub struct Movement {
    /// Equal parts (4), sizes (1,25%,100%; the last repeats), growing or growing:N [default: fleet.yaml's, else 4]
    #[arg(long, value_name = "N|LIST|growing")]
    segments: Option<Segments>,
    /// So many nodes first, as a segment of their own
    #[arg(long, value_name = "N")]
    canary: Option<Canary>,
    /// Who goes first: name, random, or spread:LABEL [default: fleet.yaml's, else name]
    #[arg(long, value_name = "HOW")]
    order: Option<Sequence>,
    /// Nodes of a segment that move at once [default: fleet.yaml's, else all]
    #[arg(long, value_name = "N|%|all")]
    parallel: Option<Parallel>,
    /// Nodes that must serve at any time; also codedeploy:HalfAtATime and such [default: fleet.yaml's, else 0]
    #[arg(long, value_name = "N|%")]
    min_healthy: Option<MinHealthy>,
    /// Nodes that may fail before it turns back [default: fleet.yaml's, else 0]
    #[arg(long, value_name = "N|%")]
    max_failures: Option<Budget>,
    /// How long each segment must stay proven [default: fleet.yaml's, else 0s]
    #[arg(long, value_name = "DUR")]
    bake: Option<Millis>,
    /// rollback, stop, or pause and wait for a person [default: fleet.yaml's, else rollback]
    #[arg(long, value_name = "WHAT")]
    on_failure: Option<OnFailure>,
    /// Same as --on-failure stop
    #[arg(long, conflicts_with = "on_failure")]
    no_rollback: bool,
    /// How long one node may take from its order to its proof [default: 120s]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    deadline: Option<Millis>,
    /// An agent that is not confirmed within this time undoes its switch; off: it does not wait [default: 30s]
    #[arg(long, value_name = "DUR|off")]
    confirm: Option<ConfirmWithin>,
    /// How long a node that is absent at the start is waited for at the end [default: 10s]
    #[arg(long, value_name = "DUR")]
    absent_grace: Option<Millis>,
    /// Deploy the release although it was rolled back before
    #[arg(long)]
    again: bool,
}

impl Rollout {
    /// The request, with `fleet.yaml`'s own wishes below the flags and the documented defaults below both. Which nodes it
    /// is limited to is added when the fleet is known.
    pub fn request(&self, release: &str, file: &DeployDefaults) -> v1::DeploymentRequest {
        let mut request = self.movement.request(release, file);
        self.checks.add_to(&mut request, file);
        self.exceptions.add_to(&mut request);
        request.environment.clone_from(&self.environment);
        request.message.clone_from(&self.message);
        request
    }

    /// A request that carries out a kept plan, in which only the message is new.
    pub fn request_of_plan(&self, plan: &str) -> v1::DeploymentRequest {
        v1::DeploymentRequest { plan: plan.to_owned(), message: self.message.clone(), ..Default::default() }
    }

    /// Whether the tests are those of the command line, and not those of the service file.
    pub fn names_tests(&self) -> bool {
        self.checks.names_tests()
    }
}

impl Movement {
    fn request(&self, release: &str, file: &DeployDefaults) -> v1::DeploymentRequest {
        let on_failure = match self.no_rollback {
            true => OnFailure::Stop,
            false => self.on_failure.or(file.on_failure).unwrap_or(OnFailure::Rollback),
        };
        v1::DeploymentRequest {
            release: release.to_owned(),
            segments: self
                .segments
                .clone()
                .or_else(|| file.segments.clone())
                .map_or_else(|| SEGMENTS.to_owned(), |s| s.to_string()),
            canary: self.canary.map_or(0, |c| u32::try_from(c.0).unwrap_or(u32::MAX)),
            order: self.order.clone().or_else(|| file.order.clone()).unwrap_or_default().to_string(),
            parallel: self.parallel.or(file.parallel).unwrap_or_default().to_string(),
            min_healthy: self.min_healthy.or(file.min_healthy).unwrap_or_default().to_string(),
            max_failures: self.max_failures.or(file.max_failures).unwrap_or(Budget::Nodes(0)).to_string(),
            bake_ms: self.bake.or(file.bake).unwrap_or_default().0,
            on_failure: on_failure.as_str().to_owned(),
            node_deadline_ms: self.deadline.unwrap_or(NODE_DEADLINE).0,
            confirm_ms: Some(self.confirm.or(file.confirm).unwrap_or(CONFIRM).0.0),
            // On the wire zero means "not said"; who says 0s does not want to wait.
            absent_grace_ms: self.absent_grace.unwrap_or(ABSENT_GRACE).0.max(1),
            again: self.again,
            ..v1::DeploymentRequest::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        rollout: Rollout,
    }

    fn request(line: &[&str], defaults: &DeployDefaults) -> v1::DeploymentRequest {
        Line::try_parse_from(std::iter::once(&"x").chain(line)).unwrap().rollout.request("r-1", defaults)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let none = DeployDefaults::default();
        let plain = request(&[], &none);
        assert_eq!(
            (plain.segments.as_str(), plain.max_failures.as_str(), plain.bake_ms, plain.on_failure.as_str()),
            ("4", "0", 0, "rollback")
        );
        assert_eq!((plain.node_deadline_ms, plain.absent_grace_ms), (120_000, 10_000));
        let file = DeployDefaults {
            segments: Some("1,100%".parse().unwrap()),
            max_failures: Some(Budget::Percent(10)),
            bake: Some(Millis(5_000)),
            on_failure: Some(OnFailure::Stop),
            order: Some("spread:az".parse().unwrap()),
            parallel: Some("5".parse().unwrap()),
            min_healthy: Some("75%".parse().unwrap()),
            confirm: Some("off".parse().unwrap()),
            ..DeployDefaults::default()
        };
        let from_file = request(&[], &file);
        assert_eq!(
            (
                from_file.segments.as_str(),
                from_file.max_failures.as_str(),
                from_file.bake_ms,
                from_file.on_failure.as_str()
            ),
            ("1,100%", "10%", 5_000, "stop")
        );
        let flags =
            request(&["--segments", "2", "--bake", "1s", "--on-failure", "rollback", "--max-failures", "1"], &file);
        assert_eq!(
            (flags.segments.as_str(), flags.max_failures.as_str(), flags.bake_ms, flags.on_failure.as_str()),
            ("2", "1", 1_000, "rollback")
        );
        assert_eq!(request(&["--no-rollback"], &none).on_failure, "stop");
        assert_eq!(
            (plain.order.as_str(), plain.parallel.as_str(), plain.min_healthy.as_str(), plain.confirm_ms),
            ("name", "all", "0", Some(30_000))
        );
        assert_eq!(
            (
                from_file.order.as_str(),
                from_file.parallel.as_str(),
                from_file.min_healthy.as_str(),
                from_file.confirm_ms
            ),
            ("spread:az", "5", "75%", Some(0))
        );
        let line = ["--order", "random", "--parallel", "25%", "--min-healthy", "6", "--confirm", "1m", "--canary", "2"];
        let flags = request(&line, &file);
        assert_eq!(
            (flags.order.as_str(), flags.parallel.as_str(), flags.min_healthy.as_str(), flags.confirm_ms, flags.canary),
            ("random", "25%", "6", Some(60_000), 2)
        );
        let said = request(&["-e", "prod", "-m", "OPS-1", "--segments", "growing:2", "--again"], &file);
        assert_eq!(
            (said.environment.as_str(), said.message.as_str(), said.segments.as_str(), said.again),
            ("prod", "OPS-1", "growing:2", true)
        );
        assert_eq!(request(&["--on-failure", "pause"], &none).on_failure, "pause");
        for bad in [["--order", "size"], ["--parallel", "0"], ["--min-healthy", "101%"], ["--segments", "growing:0"]] {
            assert!(Line::try_parse_from(std::iter::once("x").chain(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(request(&["--absent-grace", "0s"], &none).absent_grace_ms, 1);
        assert!(Line::try_parse_from(["x", "--deadline", "0s"]).is_err());
    }
}
