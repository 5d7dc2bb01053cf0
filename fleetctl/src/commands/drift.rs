//! `fleetctl drift`: where the fleet differs from what is desired, in every form that people and programs watch. A
//! report that cannot be made, or is too old, is an alarm: it says UNKNOWN in each of them and never ends with 0.

mod accept;
mod fix;
mod ignore;
mod ledger;
mod selftest;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use fleet::drift::Kind;
use fleet::outcome::exit;
use fleet::{Millis, NodeName, ServiceName};
use fleet_proto::v1;

use super::narrow;
use super::output_file::OutputFile;
use super::session::Session;
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;
use crate::output::diff::{self, file_diff};
use crate::output::documents::{DriftReport, document};
use crate::output::drift::{Width, mixed_note, render, to_csv};
use crate::output::format::Format;
use crate::output::nagios::{self, Range, State, Thresholds};
use crate::output::screen::Verbosity;
use crate::output::seen::{Seen, counted, differs};
use crate::output::{drift_lines, junit, markdown, prometheus};
use crate::ping::{Ping, PingUrl};

/// How long a fresh round over the whole fleet may take: silent nodes are waited for.
const FRESH_DEADLINE: Duration = Duration::from_secs(60);
/// How long a monitoring plugin may take, by the guidelines.
const PLUGIN_DEADLINE: Millis = Millis::from_secs(10);

/// What the report can be written as.
const FORMS: [Format; 10] = [
    Format::Table,
    Format::Wide,
    Format::Json,
    Format::Jsonl,
    Format::Csv,
    Format::Markdown,
    Format::Junit,
    Format::Nagios,
    Format::Prometheus,
    Format::Textfile,
];

/// Shows what was found by itself in the last seconds; --fresh looks again first.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  fleetctl drift web-12 --fresh --diff
  fleetctl drift --quiet --ping https://hc-ping.com/UUID   # cron: silent when all is well
  fleetctl drift --format nagios -w 0 -c 2 -t 10
  fleetctl drift --format textfile --output-file /var/lib/node-exporter/fleet.prom

Exit codes: 0 nothing differs, 2 something does, 69 controller unreachable, 1 UNKNOWN: nothing was
found, but some node was not observed, or not within --max-age, or there is no such node or
service. With --format nagios: 0 OK, 1 WARNING (also when the last self-test failed), 2 CRITICAL,
3 UNKNOWN.

A file given by --output-file is replaced in one step, also when there is no report: then it says
UNKNOWN. A ping that fails is told on standard error and changes no exit code.

A service whose nodes shall hold different releases (after deploy --limit) is no drift: nothing
differs from what is desired. A note says so, except with --quiet. What somebody accepts, and extra
files that a rule ignores, is shown and counted apart, and changes no exit code."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only these nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<NodeName>,
    /// Only this service
    #[arg(short, long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only services that were last deployed to this environment
    #[arg(short, long, value_name = "NAME")]
    env: Option<String>,
    /// Only findings of these kinds; who cannot be looked at is always told
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind_parser())]
    kind: Vec<Kind>,
    /// Only what began after the last deployment was proven, and who cannot be looked at
    #[arg(long)]
    since_release: bool,
    /// Show how text files differ, with secrets masked (one node; as a table or JSON)
    #[arg(long, requires = "nodes")]
    diff: bool,
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
    /// UNKNOWN if there is no report within this time (10, 10s, 1m) [with --format nagios: 10, with --fresh 60]
    #[arg(short = 't', value_name = "SECONDS", value_parser = seconds)]
    within: Option<Millis>,
    /// Write the report into this file instead, in one step
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Tell a dead man's switch: GET URL/start, then POST URL/EXIT-CODE with the report
    #[arg(long, value_name = "URL")]
    ping: Option<PingUrl>,
}

/// A kind by its word.
fn kind_parser() -> impl clap::builder::TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|word| word.parse::<Kind>())
}

/// Plain seconds as the plugins have it, or a time as everywhere else.
fn seconds(text: &str) -> Result<Millis, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    super::some_time(&if digits { format!("{text}s") } else { text.to_owned() })
}

/// What can be done about drift.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Accept a difference of files as it is, for a while
    Accept(accept::Args),
    /// Ignore extra files of a service
    #[command(subcommand)]
    Ignore(ignore::Verb),
    /// Put the files of a release back on a node
    Fix(fix::Args),
    /// Show when findings were opened, closed, accepted and repaired
    History(ledger::Args),
    /// Plant a decoy of old code, and see whether the alarm fires
    Selftest(selftest::Args),
}

pub(super) async fn run(session: &Session, mut args: Args) -> Result<u8, Failure> {
    match args.verb.take() {
        Some(Verb::Accept(args)) => return accept::run(session, args).await,
        Some(Verb::Ignore(verb)) => return ignore::run(session, verb).await,
        Some(Verb::Fix(args)) => return fix::run(session, args).await,
        Some(Verb::History(args)) => return ledger::run(session, args).await,
        Some(Verb::Selftest(args)) => return selftest::run(session, args).await,
        None => {}
    }
    let format = session.format(&FORMS, "drift")?;
    let file = args.output_file.as_deref().map(OutputFile::at).transpose()?;
    if format == Format::Textfile && file.is_none() {
        return Err(Failure::usage("the format 'textfile' is a file that is replaced in one step")
            .help("add --output-file FILE, or use --format prometheus"));
    }
    if args.diff && (args.nodes.len() != 1 || !matches!(format, Format::Table | Format::Wide | Format::Json)) {
        return Err(Failure::usage("--diff shows the files of one node, as a table or JSON")
            .help("name one node, and use -o table, wide or json"));
    }
    let ping = args.ping.clone().map(Ping::begin);
    let (seen, failure) = match in_time(session, &args, format).await {
        Ok(seen) => (seen, None),
        Err(failure) => (Seen::nothing(&failure.what, session.local_ms()), Some(failure)),
    };
    let (text, mut code) = form(&seen, &args, format, failure.as_ref());
    match file {
        Some(file) => {
            if let Err(failure) = file.replace(&text) {
                session.screen.insist(failure.to_text().trim_end());
                // What was found is still what was found; good news that nobody can read is none.
                code = match (code, format) {
                    (exit::OK, Format::Nagios) => State::Unknown as u8,
                    (exit::OK, _) => exit::FAILED,
                    (code, _) => code,
                };
            }
        }
        None if is_said(&seen, format, session.screen.verbosity, failure.as_ref()) => session.screen.out(&text),
        None => {}
    }
    if let Some(ping) = ping
        && let Err(why) = ping.end(code, &text).await
    {
        session.screen.insist(&format!("warning: the ping failed: {why}"));
    }
    match (failure, &seen.unknown) {
        // A plugin's caller reads standard output and knows four exit codes.
        _ if format == Format::Nagios => Ok(code),
        (Some(mut failure), _) => {
            failure.what = format!("UNKNOWN: {}", failure.what);
            Err(failure)
        }
        (None, Some(why)) => {
            session.screen.insist(&format!("UNKNOWN: {why}"));
            Ok(code)
        }
        (None, None) => Ok(code),
    }
}

/// The look, no longer than a caller waits.
async fn in_time(session: &Session, args: &Args, format: Format) -> Result<Seen, Failure> {
    let plugin = (format == Format::Nagios).then(|| match (session.global.timeout, args.fresh) {
        (Some(limit), _) => limit,
        (None, false) => PLUGIN_DEADLINE,
        (None, true) => Millis(u64::try_from(FRESH_DEADLINE.as_millis()).unwrap_or(u64::MAX)),
    });
    let Some(limit) = args.within.or(plugin) else { return fetch(session, args, format).await };
    match tokio::time::timeout(limit.to_std(), fetch(session, args, format)).await {
        Ok(seen) => seen,
        Err(_) => Err(Failure::new(exit::UNAVAILABLE, format!("no report within {limit}"))),
    }
}

async fn fetch(session: &Session, args: &Args, format: Format) -> Result<Seen, Failure> {
    let mut client = session.connect().await?;
    let mut services = answer(CALL_DEADLINE, client.status(v1::StatusRequest {})).await?.services;
    // Before the report: who is in both was looked at in the second.
    let mut all = match format {
        Format::Junit | Format::Prometheus | Format::Textfile => {
            answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes
        }
        _ => vec![],
    };
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
    let mut report = answer(within, client.drift(request)).await?;
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
    services.retain(|s| args.service.as_ref().is_none_or(|asked| asked.as_str() == s.service));
    if let Some(env) = &args.env {
        services.retain(|s| s.environment == *env);
        if services.is_empty() {
            return Err(Failure::failed(format!("nothing was deployed to an environment '{env}'"))
                .help("'fleetctl status' lists the services and their environments"));
        }
        narrow::by_service(&mut report, &services.iter().map(|s| s.service.as_str()).collect());
    }
    narrow::by_kind(&mut report, &args.kind);
    if args.since_release {
        narrow::since_release(&mut report);
    }
    all.retain(|node| nodes.is_empty() || nodes.iter().any(|name| name.as_str() == node.name));
    let mixed = services.iter().filter(|s| s.state == "mixed").map(|s| s.service.clone()).collect();
    let mut diffs = Vec::new();
    if let (true, Some(node)) = (args.diff, args.nodes.first()) {
        let service = args.service.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = v1::ShowFilesRequest { node: node.to_string(), service };
        diffs = answer(within, client.show_files(request)).await?.files;
    }
    Ok(Seen { mixed, services, diffs, nodes: all, ..Seen::new(report, args.max_age) })
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

/// The report as it is written, and the exit code.
fn form(seen: &Seen, args: &Args, format: Format, failure: Option<&Failure>) -> (String, u8) {
    let report = &seen.report;
    let code = match failure {
        Some(failure) => failure.exit,
        None => verdict(report, seen.unknown.as_deref(), args.exit_zero),
    };
    let text = match (format, failure) {
        (Format::Nagios, failure) => {
            let thresholds = Thresholds { warning: args.warning.clone(), critical: args.critical.clone() };
            let (text, state) = match failure {
                Some(failure) => (nagios::unknown(&failure.what), State::Unknown),
                None => nagios::render(seen, &thresholds),
            };
            return (text + &mixed_note(&seen.mixed), state as u8);
        }
        (Format::Json, _) => {
            let report = DriftReport::new(report.clone(), seen.unknown.clone(), seen.mixed.clone());
            document("DriftReport", DriftReport { diffs: seen.diffs.iter().map(file_diff).collect(), ..report })
        }
        (Format::Jsonl, _) => drift_lines::render(seen),
        (Format::Csv, _) => to_csv(seen),
        (Format::Markdown, _) => markdown::render(seen),
        (Format::Junit, _) => junit::drift(seen),
        (Format::Prometheus | Format::Textfile, _) => prometheus::render(seen),
        (Format::Table | Format::Wide | Format::Name, Some(failure)) => format!("UNKNOWN: {}", failure.to_text()),
        (Format::Table | Format::Name, None) => table(seen, args, code, Width::Narrow),
        (Format::Wide, None) => table(seen, args, code, Width::Wide),
    };
    (text, code)
}

fn table(seen: &Seen, args: &Args, code: u8, width: Width) -> String {
    // A person also sees standard error, where it is said; who reads the file later does not.
    let unknown = seen.unknown.as_ref().filter(|_| args.output_file.is_some());
    let why = unknown.map(|why| format!("UNKNOWN: {why}\n")).unwrap_or_default();
    let diffs: String = seen.diffs.iter().map(diff::render).collect();
    why + &diffs + &render(&seen.report, code, width) + &mixed_note(&seen.mixed)
}

/// Whether the form goes to standard output. With --quiet people get no good news. Where there is no report the error is
/// said on standard error; forms that are kept or shown without it say UNKNOWN themselves.
fn is_said(seen: &Seen, format: Format, verbosity: Verbosity, failure: Option<&Failure>) -> bool {
    let good_news = counted(&seen.report).next().is_none() && verbosity == Verbosity::Quiet;
    match format {
        Format::Table | Format::Wide | Format::Name | Format::Markdown if good_news => false,
        Format::Table | Format::Wide | Format::Name | Format::Json | Format::Jsonl | Format::Csv => failure.is_none(),
        Format::Markdown | Format::Junit | Format::Nagios | Format::Prometheus | Format::Textfile => true,
    }
}

/// Findings outrank ignorance: who reads 2 knows that something is wrong, and the report names it.
fn verdict(report: &v1::DriftReport, unknown: Option<&str>, exit_zero: bool) -> u8 {
    match (differs(report), unknown) {
        (true, _) if !exit_zero => exit::DIFFERENCES,
        (_, Some(_)) => exit::FAILED,
        (_, None) => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{accepted, clean, drift};

    #[test]
    fn only_a_fresh_clean_report_ends_with_zero() {
        assert_eq!(verdict(&clean(), None, false), 0);
        assert_eq!(verdict(&clean(), Some("old"), false), 1);
        assert_eq!(verdict(&clean(), Some("old"), true), 1);
        assert_eq!(verdict(&drift(), None, false), 2);
        assert_eq!(verdict(&drift(), Some("old"), false), 2);
        assert_eq!(verdict(&drift(), None, true), 0);
        let accepted = v1::DriftReport { findings: vec![accepted()], accepted: 1, compliant: 7, ..clean() };
        assert_eq!(verdict(&accepted, None, false), 0, "what is accepted is no alarm");
        assert_eq!(verdict(&accepted, Some("old"), false), 1, "and no knowledge");
        let silent = v1::DriftReport { unreachable: 1, ..clean() };
        assert_eq!(verdict(&silent, None, false), 2);
    }
}
