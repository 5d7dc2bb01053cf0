//! `fleetctl plan`: what `deploy` would do, and the plans that were kept. The release is uploaded, since the controller
//! plans with it; no node is touched.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::deploy::limited_request;
use super::release_source;
use super::rollout::{FIXED_BY_A_PLAN, Rollout};
use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Items, Plan, document};
use crate::output::format::Format;
use crate::output::plan::{list_kept, render};
use crate::output::text::count;

/// Nothing on any node is changed; the release is uploaded so that the controller can plan with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl plan examples/hello --segments 4 --order spread:az --min-healthy 75%
  fleetctl plan shop@2.3.1 --keep          # then: fleetctl deploy --plan p-...
  fleetctl plan --list
  fleetctl plan --detailed-exitcode        # 0 nothing to change, 2 something

Exit codes: 0 it can be carried out, 1 something forbids it,
2 with --detailed-exitcode: it changes something.")]
pub struct Args {
    /// A directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id [default: the directory here]
    #[arg(value_name = "DIR|BUNDLE|SERVICE@VERSION|RELEASE")]
    source: Option<String>,
    /// End with 2 if something would change
    #[arg(long)]
    detailed_exitcode: bool,
    /// Keep it, so that 'deploy --plan' can carry out exactly this
    #[arg(long)]
    keep: bool,
    /// Show a plan that was kept
    #[arg(long, value_name = "ID", conflicts_with_all = ["source", "keep"], conflicts_with_all = FIXED_BY_A_PLAN)]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    plan: Option<String>,
    /// List the plans that were kept, newest first
    #[arg(long, conflicts_with_all = ["source", "keep", "plan", "detailed_exitcode"])]
    #[arg(conflicts_with_all = FIXED_BY_A_PLAN)]
    list: bool,
    #[command(flatten)]
    rollout: Rollout,
}

/// Whether a plan is to be named later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    if args.list {
        return list(session).await;
    }
    let keep = if args.keep { Keep::Yes } else { Keep::No };
    let plan = make(session, args.source.as_deref(), args.plan.as_deref(), &args.rollout, keep).await?;
    Ok(if plan.to_change > 0 && args.detailed_exitcode { exit::DIFFERENCES } else { exit::OK })
}

/// Shows the plan, for `deploy --dry-run`.
pub(super) async fn show(
    session: &Session,
    source: Option<&str>,
    kept: Option<&str>,
    rollout: &Rollout,
) -> Result<u8, Failure> {
    make(session, source, kept, rollout, Keep::No).await?;
    Ok(exit::OK)
}

async fn make(
    session: &Session,
    source: Option<&str>,
    kept: Option<&str>,
    rollout: &Rollout,
    keep: Keep,
) -> Result<v1::Plan, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "plan")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let request = match kept {
        Some(id) => rollout.request_of_plan(id),
        None => {
            let ready = release_source::provide(session, &controller, &mut client, source).await?;
            let request = limited_request(&mut client, &ready, rollout).await?;
            v1::DeploymentRequest { keep_plan: keep == Keep::Yes, ..request }
        }
    };
    let plan = answer(CALL_DEADLINE, client.plan_deployment(request)).await?;
    if kept.is_some() {
        fits_environment(&plan, rollout)?;
    }
    if format == Format::Name && plan.id.is_empty() {
        return Err(Failure::usage("only a plan that is kept has a name").help("fleetctl plan --keep -o name"));
    }
    show_made(session, plan, format)
}

/// Shows a plan that the controller made.
///
/// # Errors
/// 1 if it would be refused.
pub(super) fn show_made(session: &Session, plan: v1::Plan, format: Format) -> Result<v1::Plan, Failure> {
    match format {
        Format::Json | Format::Jsonl => session.screen.out(&document("Plan", Plan::from(plan.clone()))),
        Format::Name => session.screen.out(&format!("{}\n", plan.id)),
        _ => session.screen.out(&render(&plan, session.screen.zone, session.screen.glyphs)),
    }
    match (plan.refused.as_str(), plan.blocks.len()) {
        ("", 0) => Ok(plan),
        ("", blocks) => Err(Failure::failed(format!("it would be refused now: {} in the way", things(blocks)))),
        (why, _) => Err(Failure::failed(format!("it would be refused now: {why}"))),
    }
}

fn things(blocks: usize) -> String {
    format!("{} {}", count(blocks, "thing"), if blocks == 1 { "is" } else { "are" })
}

/// `--env` cannot move a plan; but it can keep a person from carrying out the wrong one.
///
/// # Errors
/// 64 if the plan is for another environment.
pub(super) fn fits_environment(plan: &v1::Plan, rollout: &Rollout) -> Result<(), Failure> {
    if rollout.environment.is_empty() || rollout.environment == plan.environment {
        return Ok(());
    }
    Err(Failure::usage(format!("the plan is for {}, and not for {}", plan.environment, rollout.environment))
        .help("leave --env out, or make a plan for that environment: fleetctl plan --keep"))
}

async fn list(session: &Session) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "plan --list")?;
    let mut client = session.connect().await?;
    let plans = answer(CALL_DEADLINE, client.list_plans(v1::ListPlansRequest::default())).await?.plans;
    match format {
        Format::Json => session.screen.out(&document("PlanList", Items::<Plan>::of(plans))),
        Format::Name => session.screen.out(&plans.iter().map(|p| format!("{}\n", p.id)).collect::<String>()),
        _ => session.screen.out(&list_kept(&plans, session.screen.zone)),
    }
    Ok(exit::OK)
}
