//! `fleetctl drift`: where the fleet differs from what is desired. A report that cannot be made, or is too old, is an
//! alarm: it says UNKNOWN and never ends with 0.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet::outcome::exit;
use fleet::{Millis, NodeName, ServiceName};
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;
use crate::output::documents::{DriftReport, document};
use crate::output::drift::{Freshness, freshness, mixed_note, render, to_csv};
use crate::output::format::Format;
use crate::output::nagios::{self, Range, State, Thresholds};

/// How long a fresh round over the whole fleet may take: silent nodes are waited for.
const FRESH_DEADLINE: Duration = Duration::from_secs(60);

/// Shows what was found by itself in the last seconds; --fresh looks again first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl drift
  fleetctl drift web-12 --fresh
  fleetctl drift --quiet                   # for cron: prints only when something is wrong
  fleetctl drift --format nagios -w 0 -c 2

Exit codes: 0 nothing differs, 2 something does, 69 controller unreachable, 1 UNKNOWN: nothing was
found, but some node was not observed, or not within --max-age, or there is no such node or
service. With --format nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

A service whose nodes shall hold different releases (after deploy --limit) is no drift: nothing
differs from what is desired. A note says so, except with --quiet.")]
pub struct Args {
    /// Only these nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<NodeName>,
    /// Only this service
    #[arg(short, long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Ask every node again first
    #[arg(long)]
    fresh: bool,
    /// Older observations count as unknown
    #[arg(long, value_name = "DUR", default_value = "5m")]
    max_age: Millis,
    /// End with 0 also when something differs; UNKNOWN stays UNKNOWN
    #[arg(long)]
    exit_zero: bool,
    /// With --format nagios: WARNING when the number of drifted nodes is outside this range
    #[arg(short, long, value_name = "RANGE", default_value = "0")]
    warning: Range,
    /// With --format nagios: CRITICAL when it is outside this one [default: when a finding is critical]
    #[arg(short, long, value_name = "RANGE")]
    critical: Option<Range>,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Wide, Format::Json, Format::Csv, Format::Nagios], "drift")?;
    match (fetch(session, &args).await, format) {
        (Ok(seen), Format::Nagios) => {
            let thresholds = Thresholds { warning: args.warning, critical: args.critical, max_age: args.max_age };
            let (text, state) = nagios::render(&seen.report, &thresholds);
            session.screen.out(&(text + &mixed_note(&seen.mixed)));
            Ok(state as u8)
        }
        // A plugin's caller reads standard output and knows four exit codes.
        (Err(failure), Format::Nagios) => {
            session.screen.out(&nagios::unknown(&failure.what));
            Ok(State::Unknown as u8)
        }
        (Ok(seen), _) => Ok(show(session, seen, &args, format)),
        (Err(mut failure), _) => {
            failure.what = format!("UNKNOWN: {}", failure.what);
            Err(failure)
        }
    }
}

/// A report, and what is no difference but should not surprise anybody either.
struct Seen {
    report: v1::DriftReport,
    /// Services whose nodes shall hold different releases while no deployment is at work.
    mixed: Vec<String>,
}

async fn fetch(session: &Session, args: &Args) -> Result<Seen, Failure> {
    let mut client = session.connect().await?;
    let services = answer(CALL_DEADLINE, client.status(v1::StatusRequest {})).await?.services;
    let asked = |name: &str| args.service.as_ref().is_none_or(|service| service.as_str() == name);
    let mixed =
        services.iter().filter(|s| s.state == "mixed" && asked(&s.service)).map(|s| s.service.clone()).collect();
    let within = match args.fresh {
        true => session.timeout().unwrap_or(FRESH_DEADLINE),
        false => session.timeout().unwrap_or(CALL_DEADLINE),
    };
    let nodes: BTreeSet<&NodeName> = args.nodes.iter().collect();
    let request = v1::DriftRequest {
        nodes: nodes.iter().map(ToString::to_string).collect(),
        service: args.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        fresh: args.fresh,
    };
    let report = answer(within, client.drift(request)).await?;
    // What nobody has heard of was not looked at: a name with a typo must not read as "nothing differs" for ever.
    if let Some(service) = &args.service
        && report.findings.is_empty()
        && !services.iter().any(|s| s.service == service.as_str())
    {
        return Err(Failure::failed(format!("there is no service '{service}'")).help("'fleetctl status' lists them"));
    }
    if (report.nodes as usize) < nodes.len() {
        return Err(unexpected(&mut client, &nodes).await?);
    }
    Ok(Seen { report, mixed })
}

/// The failure that names the first of these nodes which nobody expects.
async fn unexpected(client: &mut Operator, nodes: &BTreeSet<&NodeName>) -> Result<Failure, Failure> {
    let expected = answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes;
    let what = match nodes.iter().find(|name| !expected.iter().any(|node| node.name == name.as_str())) {
        Some(name) => format!("there is no node '{name}'"),
        None => "the controller did not look at every node that was named".to_owned(),
    };
    Ok(Failure::failed(what).help("'fleetctl nodes list' lists them"))
}

fn show(session: &Session, seen: Seen, args: &Args, format: Format) -> u8 {
    let Seen { report, mixed } = seen;
    let unknown = match freshness(&report, args.max_age) {
        Freshness::Fresh => None,
        Freshness::Unknown(why) => Some(why),
    };
    let code = verdict(&report, unknown.as_deref(), args.exit_zero);
    let silent = session.global.quiet && report.findings.is_empty();
    match format {
        Format::Json => session.screen.out(&document("DriftReport", DriftReport::new(report, unknown.clone(), mixed))),
        Format::Csv => session.screen.out(&to_csv(&report)),
        _ if silent => {}
        _ => session.screen.out(&(render(&report, code) + &mixed_note(&mixed))),
    }
    if let Some(why) = unknown {
        session.screen.insist(&format!("UNKNOWN: {why}"));
    }
    code
}

/// Findings outrank ignorance: who reads 2 knows that something is wrong, and the report names it.
fn verdict(report: &v1::DriftReport, unknown: Option<&str>, exit_zero: bool) -> u8 {
    let differs = !report.findings.is_empty() || report.drifted > 0 || report.unreachable > 0;
    match (differs, unknown) {
        (true, _) if !exit_zero => exit::DIFFERENCES,
        (_, Some(_)) => exit::FAILED,
        (_, None) => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{clean, drift};

    #[test]
    fn only_a_fresh_clean_report_ends_with_zero() {
        assert_eq!(verdict(&clean(), None, false), 0);
        assert_eq!(verdict(&clean(), Some("old"), false), 1);
        assert_eq!(verdict(&clean(), Some("old"), true), 1);
        assert_eq!(verdict(&drift(), None, false), 2);
        assert_eq!(verdict(&drift(), Some("old"), false), 2);
        assert_eq!(verdict(&drift(), None, true), 0);
        let silent = v1::DriftReport { unreachable: 1, ..clean() };
        assert_eq!(verdict(&silent, None, false), 2);
    }
}
