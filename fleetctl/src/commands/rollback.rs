//! `fleetctl rollback`: a deployment to what was held before. What will change is shown first.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::deploy::{Watching, asks, begun};
use super::rollout::Rollout;
use super::session::{Answer, Session};
use super::start::{Start, start};
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;
use crate::output::documents::{Plan, document};
use crate::output::format::Format;
use crate::output::plan::render;
use crate::service_file::DeployDefaults;

/// Goes back to what the last converged deployment before the current one held, or to what --to names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl rollback shop
  fleetctl rollback shop --to 2.2.9 --segments 2
  fleetctl rollback --dry-run              # shows what it would do")]
pub struct Args {
    /// The service; may be left out if there is only one
    service: Option<String>,
    /// A version or release to go back to
    #[arg(long, value_name = "VERSION|RELEASE")]
    to: Option<String>,
    /// Print the id and leave; the deployment goes on
    #[arg(long)]
    detach: bool,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    rollout: Rollout,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl, Format::Name], "rollback")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let service = match args.service {
        Some(service) => service,
        None => only_service(&mut client).await?,
    };
    let options = args.rollout.request("", &DeployDefaults::default());
    let request =
        v1::RollbackRequest { service: service.clone(), to: args.to.unwrap_or_default(), options: Some(options) };
    let plan = answer(CALL_DEADLINE, client.plan_rollback(request.clone())).await?;
    if args.dry_run && format == Format::Json {
        session.screen.out(&document("Plan", Plan::from(plan)));
        return Ok(exit::OK);
    }
    let text = render(&plan, session.screen.glyphs);
    if args.dry_run {
        session.screen.out(&text);
        return Ok(exit::OK);
    }
    session.screen.say(&text);
    if !plan.refused.is_empty() {
        return Err(Failure::failed(plan.refused));
    }
    if asks(&controller, args.yes)
        && session.ask(&format!("Roll {service} back on {}?", controller.target().controller)) == Answer::No
    {
        return Err(Failure::failed("not confirmed; nothing was changed"));
    }
    let deployment = start(session, &controller, &mut client, &service, &Start::Rollback(request)).await?;
    begun(session, &controller, client, deployment, Watching::of(args.detach), format).await
}

async fn only_service(client: &mut Operator) -> Result<String, Failure> {
    let status = answer(CALL_DEADLINE, client.status(v1::StatusRequest {})).await?;
    let names: Vec<String> = status.services.into_iter().map(|s| s.service).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::failed("no service has been deployed yet")),
        several => Err(Failure::usage("which service?")
            .help(format!("fleetctl rollback SERVICE, with one of: {}", several.join(", ")))),
    }
}
