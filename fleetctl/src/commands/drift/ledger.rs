//! `fleetctl drift history`: the ledger of drift, newest first.

use fleet::outcome::exit;
use fleet::{Millis, NodeName, ServiceName};
use fleet_proto::v1;

use crate::client::{CALL_DEADLINE, answer};
use crate::commands::session::Session;
use crate::commands::some_time;
use crate::failure::Failure;
use crate::output::documents::{DriftHistory, document};
use crate::output::format::Format;
use crate::output::ledger;

/// Every opening and closing of a finding with why, every acceptance and its end, every repair. The newest 10,000 lines
/// are kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl drift history
  fleetctl drift history web-12 --since 7d
  fleetctl drift history -s shop -o json")]
pub struct Args {
    /// Only this node
    node: Option<NodeName>,
    /// Only this service, and what is wrong with nodes as a whole
    #[arg(short, long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only what is not older
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    since: Option<Millis>,
    /// At most so many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    number: u32,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "drift history")?;
    let mut client = session.connect().await?;
    let request = v1::ReadLedgerRequest {
        node: args.node.map(String::from).unwrap_or_default(),
        service: args.service.map(String::from).unwrap_or_default(),
        since_ms: args.since.unwrap_or_default().0,
        limit: args.number,
    };
    let reply = answer(CALL_DEADLINE, client.read_ledger(request)).await?;
    match format {
        Format::Json => session.screen.out(&document("DriftHistory", DriftHistory::from(reply))),
        _ => session.screen.out(&ledger::lines(&reply, session.screen.zone)),
    }
    Ok(exit::OK)
}
