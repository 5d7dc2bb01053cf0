//! `fleetctl status`: every service at a glance, or one deployment in detail.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::gates::Tests;
use super::session::Session;
use super::watch::{Until, watch};
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Deployment, Status, document};
use crate::output::format::Format;
use crate::output::status;

/// Without an argument: every service, what is proven of it, and its last deployment.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl status
  fleetctl status d-7k2m4
  fleetctl status d-7k2m4 --watch
  fleetctl status shop -o json")]
pub struct Args {
    /// A deployment's id or unique prefix (d-...), or a service
    #[arg(value_name = "DEPLOYMENT|SERVICE")]
    what: Option<String>,
    /// Follow the deployment to its end
    #[arg(short, long, requires = "what")]
    watch: bool,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let formats = [Format::Table, Format::Wide, Format::Json, Format::Jsonl, Format::Name];
    let format = session.format(&formats, "status")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    if let Some(id) = args.what.clone().filter(|w| w.starts_with("d-")) {
        let deployment =
            answer(CALL_DEADLINE, client.get_deployment(v1::GetDeploymentRequest { deployment: id })).await?;
        if args.watch {
            return watch(session, &controller, client, deployment, Until::Done, Tests::Elsewhere, format).await;
        }
        let now = session.local_ms().max(deployment.started_at_ms);
        match format {
            Format::Json | Format::Jsonl => session.screen.out(&document("Deployment", Deployment::from(deployment))),
            Format::Name => session.screen.out(&format!("{}\n", deployment.id)),
            _ => session.screen.out(&status::deployment(&deployment, now, &session.screen)),
        }
        return Ok(exit::OK);
    }
    if args.watch {
        return Err(Failure::usage("only a deployment can be watched").help("fleetctl status d-... --watch"));
    }
    let mut reply = answer(CALL_DEADLINE, client.status(v1::StatusRequest {})).await?;
    if let Some(service) = &args.what {
        reply.services.retain(|s| s.service == *service);
        if reply.services.is_empty() {
            return Err(
                Failure::failed(format!("there is no service '{service}'")).help("'fleetctl status' lists them")
            );
        }
    }
    match format {
        Format::Json | Format::Jsonl => session.screen.out(&document("Status", Status::from(reply))),
        Format::Name => {
            session.screen.out(&reply.services.iter().map(|s| format!("{}\n", s.service)).collect::<String>())
        }
        _ => session.screen.out(&status::services(&reply, session.local_ms(), session.screen.glyphs)),
    }
    Ok(exit::OK)
}
