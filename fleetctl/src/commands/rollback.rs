//! `fleetctl rollback`: a deployment to what was held before. What will change is shown first.

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::begin::Begin;
use super::deploy::tests_of;
use super::gates::Tests;
use super::limit;
use super::plan;
use super::rollout::Rollout;
use super::session::{Answer, Session};
use super::start::{Start, start};
use crate::client::{CALL_DEADLINE, Controller, Operator, answer};
use crate::failure::Failure;
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
    service: Option<ServiceName>,
    /// A version or release to go back to
    #[arg(long, value_name = "VERSION|RELEASE")]
    to: Option<String>,
    #[command(flatten)]
    begin: Begin,
    #[command(flatten)]
    rollout: Rollout,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl, Format::Name], "rollback")?;
    args.begin.prepare()?;
    let begin = args.begin.clone();
    match start_or_show(session, args, format).await {
        Ok(Some((controller, client, deployment, tests))) => {
            begin.go_on(session, &controller, client, deployment, tests, format).await
        }
        Ok(None) => Ok(exit::OK),
        Err(failure) => begin.not_begun(session, failure),
    }
}

/// Starts it, unless only its plan was to be shown.
async fn start_or_show(
    session: &Session,
    args: Args,
    format: Format,
) -> Result<Option<(Controller, Operator, v1::Deployment, Tests)>, Failure> {
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let service = match args.service {
        Some(service) => service.to_string(),
        None => only_service(&mut client).await?,
    };
    let mut options = args.rollout.request("", &DeployDefaults::default());
    args.begin.add_to(&mut options);
    let to = args.to.unwrap_or_default();
    if args.rollout.limit.is_given() {
        let all = v1::DeploymentRequest { environment: options.environment.clone(), ..Default::default() };
        let all = v1::RollbackRequest { service: service.clone(), to: to.clone(), options: Some(all) };
        let meant = answer(CALL_DEADLINE, client.plan_rollback(all)).await?;
        limit::add_to(&mut options, args.rollout.limit.resolve(&mut client, &meant).await?);
    }
    let tests = tests_of(&options, &args.rollout, None);
    let request = v1::RollbackRequest { service: service.clone(), to, options: Some(options) };
    let plan = answer(CALL_DEADLINE, client.plan_rollback(request.clone())).await?;
    if args.begin.dry_run {
        plan::show_made(session, plan, format)?;
        return Ok(None);
    }
    // Also if it would be refused now: the controller's refusal has the exit code and says what to do.
    session.screen.say(&render(&plan, session.screen.zone, session.screen.glyphs));
    if args.begin.asks(&controller)
        && session.ask(&format!("Roll {service} back on {}?", controller.target().controller)) == Answer::No
    {
        return Err(Failure::failed("not confirmed; nothing was changed"));
    }
    let deployment = start(session, &controller, &mut client, &service, &Start::Rollback(request)).await?;
    Ok(Some((controller, client, deployment, tests)))
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
