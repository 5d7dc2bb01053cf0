//! `fleetctl deploy`: from a directory, bundle or release to a deployment, watched to its outcome.

use super::begin::Begin;
use super::rollout::Rollout;
use super::session::{Answer, Session};
use super::start::{Start, start};
use super::{plan, release_source};
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::format::Format;

/// Ends with 0 only if every expected node is freshly proven to run the release.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl deploy examples/hello --segments 4
  fleetctl deploy shop@2.3.1 --segments 1,25%,100% --bake 60s
  fleetctl deploy --detach --message \"OPS-4711\"      # the directory here; then: fleetctl wait
  fleetctl deploy --dry-run                          # the same as plan

Exit codes: 0 every node proven, 3 failed and rolled back, 4 a human is needed, 5 aborted,
6 --timeout ran out, 65 wrong fleet.yaml or bundle, 69 controller unreachable,
75 another deployment runs, 130 detached by Ctrl-C.")]
pub struct Args {
    /// A directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id [default: the directory here]
    #[arg(value_name = "DIR|BUNDLE|SERVICE@VERSION|RELEASE")]
    source: Option<String>,
    #[command(flatten)]
    begin: Begin,
    #[command(flatten)]
    rollout: Rollout,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    if args.begin.dry_run {
        return plan::show(session, args.source.as_deref(), &args.rollout).await;
    }
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl, Format::Name], "deploy")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let ready = release_source::provide(session, &controller, &mut client, args.source.as_deref()).await?;
    let request = args.rollout.request(&ready.release.id, &ready.defaults);
    if args.begin.asks(&controller) {
        let plan = answer(CALL_DEADLINE, client.plan_deployment(request.clone())).await?;
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
    args.begin.go_on(session, &controller, client, deployment, format).await
}
