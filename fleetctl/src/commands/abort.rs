//! `fleetctl abort`: a person ends a deployment.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Deployment, document};
use crate::output::format::Format;

/// By default every node that was already ordered goes back to what it held, newest segment first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl abort d-7k2m4
  fleetctl abort d-7k2m4 --leave           # every node stays as it is
  fleetctl abort d-7k2m4 && fleetctl wait d-7k2m4")]
pub struct Args {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// Roll back what was done (the default)
    #[arg(long, conflicts_with = "leave")]
    rollback: bool,
    /// Leave every node as it is
    #[arg(long)]
    leave: bool,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "abort")?;
    let mut client = session.connect().await?;
    let deployment = answer(
        CALL_DEADLINE,
        client.abort_deployment(v1::AbortRequest { deployment: args.deployment, leave: args.leave }),
    )
    .await?;
    let id = deployment.id.clone();
    if format == Format::Json {
        session.screen.out(&document("Deployment", Deployment::from(deployment)));
        return Ok(exit::OK);
    }
    let what = if args.leave { "every node stays as it is" } else { "what was done is rolled back" };
    session.screen.say(&format!("{id} is being aborted: {what}. Follow it with: fleetctl wait {id}"));
    Ok(exit::OK)
}
