//! `fleetctl pause`, `resume`, `promote` and `waive`: what a person tells a running deployment short of ending it.

use fleet::outcome::exit;
use fleet::{Millis, NodeName};
use fleet_proto::v1;
use fleet_proto::v1::tell_request::Command;

use super::exceptions::reason;
use super::session::Session;
use super::some_time;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Deployment, document};
use crate::output::format::Format;

/// What is under way on nodes ends; nothing is begun until it is resumed, not even the way back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl pause d-7k2m4
  fleetctl pause d-7k2m4 -o json")]
pub struct Pause {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
}

/// Goes on where it was paused; what was timed goes on with the time that was left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl resume d-7k2m4
  fleetctl resume d-7k2m4 && fleetctl wait d-7k2m4")]
pub struct Resume {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
}

/// What halted it (a pause that was asked for, a gate without an answer, a failure, a migration that was interrupted) is
/// taken as done; or tried again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl promote d-7k2m4
  fleetctl promote d-7k2m4 --retry         # ask the gate, or run the migration, again
  fleetctl wait d-7k2m4 --for promotable && fleetctl promote d-7k2m4")]
pub struct Promote {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// Try again what halted it, instead of taking it as done
    #[arg(long)]
    retry: bool,
}

/// The deployment then ends as converged-with-waivers (exit 7) instead of unproven, and names the node and the reason.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl waive d-7k2m4 web-31 --reason \"disk replaced, OPS-12\"
  fleetctl waive d-7k2m4 web-31 --reason \"moves to rack 7\" --for 2h")]
pub struct Waive {
    /// The deployment: its id or a unique prefix
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// The node that need not be proven
    node: NodeName,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// How long it lasts [default: 1d]
    #[arg(long = "for", value_name = "DUR", value_parser = some_time)]
    lasts: Option<Millis>,
}

pub(super) async fn pause(session: &Session, args: Pause) -> Result<u8, Failure> {
    let request = request(args.deployment, Command::Pause(v1::Nothing {}));
    let said = |id: &str| format!("{id} is paused: nothing new begins. Go on with: fleetctl resume {id}");
    tell(session, "pause", request, said).await
}

pub(super) async fn resume(session: &Session, args: Resume) -> Result<u8, Failure> {
    let request = request(args.deployment, Command::Resume(v1::Nothing {}));
    tell(session, "resume", request, |id| format!("{id} goes on. Follow it with: fleetctl wait {id}")).await
}

pub(super) async fn promote(session: &Session, args: Promote) -> Result<u8, Failure> {
    let what = if args.retry { "tries again what halted it" } else { "goes on past what halted it" };
    let request = request(args.deployment, Command::Promote(v1::Promote { retry: args.retry }));
    tell(session, "promote", request, |id| format!("{id} {what}. Follow it with: fleetctl wait {id}")).await
}

pub(super) async fn waive(session: &Session, args: Waive) -> Result<u8, Failure> {
    let node = args.node.to_string();
    let waiver = v1::Waiver { node: node.clone(), reason: args.reason, ..v1::Waiver::default() };
    let request = v1::TellRequest {
        waive_for_ms: args.lasts.unwrap_or_default().0,
        ..request(args.deployment, Command::Waive(waiver))
    };
    let said =
        |id: &str| format!("{node} need not be proven by {id}; its outcome will say so. See: fleetctl status {id}");
    tell(session, "waive", request, said).await
}

fn request(deployment: String, command: Command) -> v1::TellRequest {
    v1::TellRequest { deployment, command: Some(command), waive_for_ms: 0 }
}

async fn tell(
    session: &Session,
    verb: &str,
    request: v1::TellRequest,
    said: impl Fn(&str) -> String,
) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], verb)?;
    let mut client = session.connect().await?;
    let deployment = answer(CALL_DEADLINE, client.tell_deployment(request)).await?;
    match format {
        Format::Json => session.screen.out(&document("Deployment", Deployment::from(deployment))),
        Format::Name => session.screen.out(&format!("{}\n", deployment.id)),
        _ => session.screen.say(&said(&deployment.id)),
    }
    Ok(exit::OK)
}
