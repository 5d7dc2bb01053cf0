//! `fleetctl plan`: what `deploy` would do. The release is uploaded, since the controller plans with it; no node is
//! touched.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::release_source;
use super::rollout::Rollout;
use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Plan, document};
use crate::output::format::Format;
use crate::output::plan::render;

/// Nothing on any node is changed; the release is uploaded so that the controller can plan with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl plan examples/hello --segments 4
  fleetctl plan shop@2.3.1 -o json
  fleetctl plan --detailed-exitcode        # 0 nothing to change, 2 something")]
pub struct Args {
    /// A directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id [default: the directory here]
    #[arg(value_name = "DIR|BUNDLE|SERVICE@VERSION|RELEASE")]
    source: Option<String>,
    /// End with 2 if something would change
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    rollout: Rollout,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let plan = make(session, args.source.as_deref(), &args.rollout).await?;
    Ok(if plan.to_change > 0 && args.detailed_exitcode { exit::DIFFERENCES } else { exit::OK })
}

/// Shows the plan, for `deploy --dry-run`.
pub(super) async fn show(session: &Session, source: Option<&str>, rollout: &Rollout) -> Result<u8, Failure> {
    make(session, source, rollout).await?;
    Ok(exit::OK)
}

async fn make(session: &Session, source: Option<&str>, rollout: &Rollout) -> Result<v1::Plan, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "plan")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let ready = release_source::provide(session, &controller, &mut client, source).await?;
    let request = rollout.request(&ready.release.id, &ready.defaults);
    let plan = answer(CALL_DEADLINE, client.plan_deployment(request)).await?;
    show_made(session, plan, format)
}

/// Shows a plan that the controller made.
///
/// # Errors
/// 1 if it would be refused.
pub(super) fn show_made(session: &Session, plan: v1::Plan, format: Format) -> Result<v1::Plan, Failure> {
    match format {
        Format::Json => session.screen.out(&document("Plan", Plan::from(plan.clone()))),
        _ => session.screen.out(&render(&plan, session.screen.glyphs)),
    }
    if plan.refused.is_empty() {
        Ok(plan)
    } else {
        Err(Failure::failed(format!("it would be refused now: {}", plan.refused)))
    }
}
