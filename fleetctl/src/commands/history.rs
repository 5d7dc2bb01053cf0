//! `fleetctl history`: past deployments, newest first.

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Deployment, Items, document};
use crate::output::format::Format;
use crate::output::history;

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
    let request =
        v1::ListDeploymentsRequest { service: args.service.map(String::from).unwrap_or_default(), limit: args.number };
    let list = answer(CALL_DEADLINE, client.list_deployments(request)).await?.deployments;
    match format {
        Format::Json => session.screen.out(&document("DeploymentList", Items::<Deployment>::of(list))),
        Format::Name => session.screen.out(&list.iter().map(|d| format!("{}\n", d.id)).collect::<String>()),
        _ => session.screen.out(&history::deployments(&list, session.screen.zone, session.screen.glyphs)),
    }
    Ok(exit::OK)
}
