//! The flags that make exceptions: nodes that need not be proven, with a reason, for a time. The outcome names them.

use fleet::{Millis, NodeName};
use fleet_proto::v1;

use super::some_time;

/// Who need not be proven.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Exceptions")]
pub struct Exceptions {
    /// This node need not be proven; the outcome is then converged-with-waivers (exit 7); may be repeated
    #[arg(long, value_name = "NODE=REASON", value_parser = waiver)]
    waive: Vec<(NodeName, String)>,
    /// The same for every node that is absent when it is planned
    #[arg(long, value_name = "REASON", value_parser = reason)]
    waive_unreachable: Option<String>,
    /// How long these waivers last [default: 1d]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    waive_for: Option<Millis>,
}

impl Exceptions {
    /// Puts them into a request.
    pub fn add_to(&self, request: &mut v1::DeploymentRequest) {
        let waiver = |(node, reason): &(NodeName, String)| v1::Waiver {
            node: node.to_string(),
            reason: reason.clone(),
            ..v1::Waiver::default()
        };
        request.waivers = self.waive.iter().map(waiver).collect();
        request.waive_absent = self.waive_unreachable.clone().unwrap_or_default();
        request.waive_for_ms = self.waive_for.unwrap_or_default().0;
    }
}

/// A reason is what makes it a waiver and not an oversight.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: a waiver or lock without a reason helps nobody later".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn waiver(text: &str) -> Result<(NodeName, String), String> {
    let (node, why) = text.split_once('=').ok_or("write NODE=REASON, such as web-31=\"disk replaced, OPS-12\"")?;
    Ok((node.parse::<NodeName>().map_err(|e| e.to_string())?, reason(why)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        exceptions: Exceptions,
    }

    #[test]
    fn a_waiver_names_its_node_and_its_reason() {
        let line = ["x", "--waive", "n1=disk, OPS-12=3", "--waive-unreachable", "move", "--waive-for", "2h"];
        let mut request = v1::DeploymentRequest::default();
        Line::try_parse_from(line).unwrap().exceptions.add_to(&mut request);
        assert_eq!((request.waivers[0].node.as_str(), request.waivers[0].reason.as_str()), ("n1", "disk, OPS-12=3"));
        assert_eq!((request.waive_absent.as_str(), request.waive_for_ms), ("move", 7_200_000));
        for bad in [["--waive", "n1"], ["--waive", "n1= "], ["--waive", "=x"], ["--waive-unreachable", ""]] {
            assert!(Line::try_parse_from(std::iter::once("x").chain(bad)).is_err(), "{bad:?}");
        }
    }
}
