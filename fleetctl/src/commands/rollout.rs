//! The flags that say how a deployment moves through the fleet, shared by `deploy`, `plan` and `rollback`.

use fleet::deployment::{Budget, OnFailure};
use fleet::segments::Segments;
use fleet::{Millis, NodeName};
use fleet_proto::v1;

use super::some_time;
use crate::service_file::DeployDefaults;

/// Segments where neither a flag nor `fleet.yaml` says how many: four, so that a bad release meets a quarter.
const SEGMENTS: &str = "4";
/// How long a node may take from its order to its proof.
const NODE_DEADLINE: Millis = Millis::from_secs(120);
/// How long a node that was absent at the start is waited for at the end.
const ABSENT_GRACE: Millis = Millis::from_secs(10);

/// How to move.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "How to move")]
pub struct Rollout {
    /// Equal parts (4), or sizes (1,25%,100%; the last repeats) [default: fleet.yaml's, else 4]
    #[arg(long, value_name = "N|LIST")]
    segments: Option<Segments>,
    /// Nodes that may fail before it turns back [default: fleet.yaml's, else 0]
    #[arg(long, value_name = "N|%")]
    max_failures: Option<Budget>,
    /// How long each segment must stay proven [default: fleet.yaml's, else 0s]
    #[arg(long, value_name = "DUR")]
    bake: Option<Millis>,
    /// rollback or stop [default: fleet.yaml's, else rollback]
    #[arg(long, value_name = "WHAT")]
    on_failure: Option<OnFailure>,
    /// Same as --on-failure stop
    #[arg(long, conflicts_with = "on_failure")]
    no_rollback: bool,
    /// How long one node may take from its order to its proof [default: 120s]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    deadline: Option<Millis>,
    /// How long a node that is absent at the start is waited for at the end [default: 10s]
    #[arg(long, value_name = "DUR")]
    absent_grace: Option<Millis>,
    /// Only these nodes, by name, separated by commas
    #[arg(short, long, value_name = "NODE,...", value_delimiter = ',')]
    limit: Vec<NodeName>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
}

impl Rollout {
    /// The request, with `fleet.yaml`'s own wishes below the flags and the documented defaults below both.
    pub fn request(&self, release: &str, defaults: &DeployDefaults) -> v1::DeploymentRequest {
        let on_failure = match self.no_rollback {
            true => OnFailure::Stop,
            false => self.on_failure.or(defaults.on_failure).unwrap_or(OnFailure::Rollback),
        };
        v1::DeploymentRequest {
            release: release.to_owned(),
            environment: String::new(),
            segments: self
                .segments
                .clone()
                .or_else(|| defaults.segments.clone())
                .map_or_else(|| SEGMENTS.to_owned(), |s| s.to_string()),
            max_failures: self.max_failures.or(defaults.max_failures).unwrap_or(Budget::Nodes(0)).to_string(),
            bake_ms: self.bake.or(defaults.bake).unwrap_or_default().0,
            on_failure: on_failure.as_str().to_owned(),
            node_deadline_ms: self.deadline.unwrap_or(NODE_DEADLINE).0,
            // On the wire zero means "not said"; who says 0s does not want to wait.
            absent_grace_ms: self.absent_grace.unwrap_or(ABSENT_GRACE).0.max(1),
            limit: self.limit.iter().map(ToString::to_string).collect(),
            message: self.message.clone(),
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
        assert_eq!(request(&["-l", "n1,n2"], &none).limit, ["n1", "n2"]);
        assert_eq!(request(&["--absent-grace", "0s"], &none).absent_grace_ms, 1);
        assert!(Line::try_parse_from(["x", "--deadline", "0s"]).is_err());
    }
}
