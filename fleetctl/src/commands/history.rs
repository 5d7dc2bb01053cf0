//! `fleetctl history`: past deployments and repairs, newest first.

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Deployment, History, Items, document};
use crate::output::format::Format;
use crate::output::{history, ledger};

/// Newest first, running ones included.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl history
  fleetctl history shop -n 4
  fleetctl history shop -o json")]
pub struct Args {
    /// Only this service
    service: Option<ServiceName>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    number: u32,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "history")?;
    let mut client = session.connect().await?;
    let service = args.service.as_ref().map(ToString::to_string).unwrap_or_default();
    let asked = v1::ListRepairsRequest { service, limit: args.number };
    let request =
        v1::ListDeploymentsRequest { service: args.service.map(String::from).unwrap_or_default(), limit: args.number };
    let list = answer(CALL_DEADLINE, client.list_deployments(request)).await?.deployments;
    let repairs = answer(CALL_DEADLINE, client.list_repairs(asked)).await?.repairs;
    match format {
        Format::Json => {
            let items = Items::<Deployment>::of(list).items;
            session.screen.out(&document("DeploymentList", History { items, repairs: Items::of(repairs).items }))
        }
        Format::Name => session.screen.out(&list.iter().map(|d| format!("{}\n", d.id)).collect::<String>()),
        _ => {
            let text = history::deployments(&list, session.screen.zone, session.screen.glyphs);
            session.screen.out(&(text + &ledger::repairs(&repairs, session.screen.zone)))
        }
    }
    Ok(exit::OK)
}
