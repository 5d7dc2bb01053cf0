//! `fleetctl drift accept`: a difference of files that a person accepts as it is, with a reason and for a while. It stays
//! open and is shown; it is counted again as soon as anything of it changes. It never proves anything.

use fleet::drift::Kind;
use fleet::outcome::exit;
use fleet::{Millis, NodeName, ServiceName};
use fleet_proto::v1;

use super::kind_parser;
use crate::client::{CALL_DEADLINE, answer};
use crate::commands::exceptions::reason;
use crate::commands::session::Session;
use crate::commands::some_time;
use crate::failure::Failure;
use crate::output::documents::{Acceptance, Items, document};
use crate::output::format::Format;
use crate::output::ledger;
use crate::output::text::{minute, plain};

/// Accepts exactly what is found now: other bytes, other bits or another release are counted again. Only files can be
/// accepted, never what may be old code or not knowing; 'verify' still says that the node differs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  fleetctl drift accept web-12 etc/shop.toml --reason \"hotfix OPS-4711\"
  fleetctl drift accept web-12 bin/shop --kind mode --for 7d --reason \"tuning, OPS-9\"
  fleetctl drift accept list"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The node
    #[arg(required = true)]
    node: Option<NodeName>,
    /// The path, as the report has it
    #[arg(required = true)]
    path: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", required = true, value_parser = reason)]
    reason: Option<String>,
    /// How long at most [default: 30d]
    #[arg(long = "for", value_name = "DUR", value_parser = some_time)]
    lasts: Option<Millis>,
    /// Only this service
    #[arg(short, long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only the finding of this kind
    #[arg(long, value_name = "KIND", value_parser = kind_parser())]
    kind: Option<Kind>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List what is accepted
    #[command(after_help = "Examples:
  fleetctl drift accept list
  fleetctl drift accept list web-12 -o json")]
    List {
        /// Only this node
        node: Option<NodeName>,
        /// Only this service
        #[arg(short, long, value_name = "NAME")]
        service: Option<ServiceName>,
    },
    /// Accept it no longer
    #[command(after_help = "Examples:
  fleetctl drift accept remove web-12 etc/shop.toml
  fleetctl drift accept remove web-12 bin/shop --kind mode")]
    Remove {
        /// The node
        node: NodeName,
        /// The path
        path: String,
        /// Only this service
        #[arg(short, long, value_name = "NAME")]
        service: Option<ServiceName>,
        /// Only the finding of this kind
        #[arg(long, value_name = "KIND", value_parser = kind_parser())]
        kind: Option<Kind>,
    },
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let name = |service: Option<ServiceName>| service.map(String::from).unwrap_or_default();
    let word = |kind: Option<Kind>| kind.map(|kind| kind.to_string()).unwrap_or_default();
    let format = session.format(&[Format::Table, Format::Json], "drift accept")?;
    let mut client = session.connect().await?;
    let (list, said) = match args.verb {
        Some(Verb::List { node, service }) => {
            let node = node.map(String::from).unwrap_or_default();
            let request = v1::ListAcceptancesRequest { node, service: name(service) };
            (answer(CALL_DEADLINE, client.list_acceptances(request)).await?.acceptances, None)
        }
        Some(Verb::Remove { node, path, service, kind }) => {
            let (service, kind) = (name(service), word(kind));
            let request = v1::RemoveAcceptanceRequest { node: node.into(), service, kind, what: path };
            let list = answer(CALL_DEADLINE, client.remove_acceptance(request)).await?.acceptances;
            (list, Some("is accepted no longer"))
        }
        None => {
            let request = v1::AcceptFindingRequest {
                node: args.node.map(String::from).unwrap_or_default(),
                service: name(args.service),
                kind: word(args.kind),
                what: args.path.unwrap_or_default(),
                reason: args.reason.unwrap_or_default(),
                for_ms: args.lasts.unwrap_or_default().0,
            };
            let list = answer(CALL_DEADLINE, client.accept_finding(request)).await?.acceptances;
            (list, Some("is accepted as it is"))
        }
    };
    match (format, said) {
        (Format::Json, _) => session.screen.out(&document("AcceptanceList", Items::<Acceptance>::of(list))),
        (_, None) => session.screen.out(&ledger::acceptances(&list, session.screen.zone)),
        (_, Some(said)) => {
            for its in &list {
                let until = minute(its.until_ms, session.screen.zone);
                let until = if said.ends_with("longer") { String::new() } else { format!(" until {until}") };
                session.screen.say(&plain(&format!("{} {} on {} {said}{until}", its.kind, its.what, its.node)));
            }
        }
    }
    Ok(exit::OK)
}
