//! `fleetctl deploy`: from a directory, bundle or release to a deployment, watched to its outcome.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::rollout::Rollout;
use super::session::{Answer, Session};
use super::start::{Start, start};
use super::watch::{Until, watch};
use super::{plan, release_source};
use crate::client::{CALL_DEADLINE, Controller, answer};
use crate::config::Confirm;
use crate::failure::Failure;
use crate::output::documents::{Deployment, document};
use crate::output::format::Format;
use crate::output::{frame, tally};

/// Ends with 0 only if every expected node is freshly proven to run the release.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl deploy examples/hello --segments 4
  fleetctl deploy shop@2.3.1 --segments 1,25%,100% --bake 60s
  fleetctl deploy --detach --message \"OPS-4711\"      # the directory here; then: fleetctl wait
  fleetctl deploy --dry-run                          # the same as plan

Exit codes: 0 every node proven, 3 failed and rolled back, 4 a human is needed, 5 aborted, 6 --timeout ran out,
65 wrong fleet.yaml or bundle, 69 controller unreachable, 75 another deployment runs, 130 detached by Ctrl-C.")]
pub struct Args {
    /// A directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id [default: the directory here]
    #[arg(value_name = "DIR|BUNDLE|SERVICE@VERSION|RELEASE")]
    source: Option<String>,
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
    if args.dry_run {
        return plan::show(session, args.source.as_deref(), &args.rollout).await;
    }
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl, Format::Name], "deploy")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let ready = release_source::provide(session, &controller, &mut client, args.source.as_deref()).await?;
    let request = args.rollout.request(&ready.release.id, &ready.defaults);
    if asks(&controller, args.yes) {
        let plan = answer(CALL_DEADLINE, client.plan_deployment(request.clone())).await?;
        if !plan.refused.is_empty() {
            return Err(Failure::failed(plan.refused));
        }
        let nodes = plan.segments.iter().map(|s| s.nodes.len()).sum::<usize>() + plan.absent.len();
        let question = format!(
            "Deploy {} {} to {nodes} nodes of {}?",
            plan.service,
            ready.release.version,
            controller.target().controller
        );
        if session.ask(&question) == Answer::No {
            return Err(Failure::failed("not confirmed; nothing was changed"));
        }
    }
    let deployment =
        start(session, &controller, &mut client, &ready.release.service, &Start::Deployment(request)).await?;
    begun(session, &controller, client, deployment, Watching::of(args.detach), format).await
}

/// Whether somebody who starts a deployment stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watching {
    /// To the outcome.
    Stays,
    /// Not at all.
    Leaves,
}

impl Watching {
    pub(super) fn of(detach: bool) -> Self {
        if detach { Self::Leaves } else { Self::Stays }
    }
}

/// Whether a person is asked first: the context says so, and nobody has said yes. Without a terminal it simply runs;
/// who may deploy is decided at the controller.
pub(super) fn asks(controller: &Controller, yes: bool) -> bool {
    !yes && controller.target().confirm == Confirm::OnTerminal
}

/// What happens after a deployment was accepted.
pub(super) async fn begun(
    session: &Session,
    controller: &Controller,
    client: crate::client::Operator,
    deployment: v1::Deployment,
    watching: Watching,
    format: Format,
) -> Result<u8, Failure> {
    let id = deployment.id.clone();
    match watching {
        Watching::Leaves => {
            match format {
                Format::Json | Format::Jsonl => {
                    session.screen.out(&document("Deployment", Deployment::from(deployment)))
                }
                _ => session.screen.out(&format!("{id}\n")),
            }
            session.screen.say(&format!("detached; {id} goes on. Come back with: fleetctl wait {id}"));
            Ok(exit::OK)
        }
        Watching::Stays => {
            if session.screen.is_live() && format != Format::Jsonl {
                session.screen.say(&frame::head(&deployment, session.screen.glyphs));
                session.screen.say(&format!(
                    "{id} started by {}. Ctrl-C detaches; stop with: fleetctl abort {id}\n",
                    deployment.started_by
                ));
            }
            tracing::info!(%id, nodes = tally::expected(&deployment).len(), "watching");
            watch(session, controller, client, deployment, Until::Done, format).await
        }
    }
}
