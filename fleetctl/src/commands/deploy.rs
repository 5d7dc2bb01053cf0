//! `fleetctl deploy`: from a directory, bundle, release or kept plan to a deployment, watched to its outcome.

use std::path::PathBuf;

use fleet_proto::v1;

use super::begin::Begin;
use super::checks::runs_here;
use super::gates::Tests;
use super::limit;
use super::plan;
use super::release_source::{self, Ready};
use super::rollout::{FIXED_BY_A_PLAN, Rollout};
use super::session::{Answer, Session};
use super::start::{Start, start};
use crate::client::{CALL_DEADLINE, Controller, Operator, answer};
use crate::failure::Failure;
use crate::output::format::Format;

/// Ends with 0 only if every expected node is freshly proven to run the release.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl deploy examples/hello --segments 4
  fleetctl deploy shop@2.3.1 --canary 1 --segments growing --bake 60s -l \"web*:!web-07\"
  fleetctl deploy --test tests/smoke.sh --pause-after 1 --on-failure pause
  fleetctl deploy --plan p-3f9a                      # exactly what 'plan --keep' showed

A test is run by /bin/sh in this directory (one of fleet.yaml: beside that file) with
FLEET_DEPLOYMENT, FLEET_SERVICE, FLEET_VERSION, FLEET_RELEASE, FLEET_SEGMENT (from 1),
FLEET_SEGMENTS and FLEET_SEGMENT_NODES in its environment. Exit 0 passes; 75 (EX_TEMPFAIL), not
being run and not ending in time are inconclusive, and halt the deployment until a person promotes
it; every other exit fails.

A pattern of --limit names nodes, the groups KEY_VALUE and VALUE of their labels, and those of -i.

Exit codes: 0 every node proven, 3 failed and rolled back, 4 a human is needed,
5 aborted or superseded, 6 --timeout ran out, 7 every node proven but waived ones,
65 wrong fleet.yaml or bundle, 69 controller unreachable,
75 another deployment runs, the service is locked, or the plan is stale, 130 detached by Ctrl-C.")]
pub struct Args {
    /// A directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id [default: the directory here]
    #[arg(value_name = "DIR|BUNDLE|SERVICE@VERSION|RELEASE")]
    source: Option<String>,
    /// Exactly this plan, which 'plan --keep' made; refused (75) if the fleet has changed since
    #[arg(long, value_name = "ID", conflicts_with = "source", conflicts_with_all = FIXED_BY_A_PLAN)]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    plan: Option<String>,
    #[command(flatten)]
    begin: Begin,
    #[command(flatten)]
    rollout: Rollout,
}

/// What is about to be started.
struct Wish {
    request: v1::DeploymentRequest,
    service: String,
    version: String,
    tests: Tests,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    if args.begin.dry_run {
        return plan::show(session, args.source.as_deref(), args.plan.as_deref(), &args.rollout).await;
    }
    let format = session.format(&[Format::Table, Format::Json, Format::Jsonl, Format::Name], "deploy")?;
    args.begin.prepare()?;
    match begin(session, &args).await {
        Ok(Begun { controller, client, deployment, tests }) => {
            args.begin.go_on(session, &controller, client, deployment, tests, format).await
        }
        Err(failure) => args.begin.not_begun(session, failure),
    }
}

/// A deployment that was accepted.
struct Begun {
    controller: Controller,
    client: Operator,
    deployment: v1::Deployment,
    tests: Tests,
}

async fn begin(session: &Session, args: &Args) -> Result<Begun, Failure> {
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let mut wish = match &args.plan {
        Some(plan) => of_plan(&mut client, plan, &args.rollout).await?,
        None => of_source(session, &controller, &mut client, args).await?,
    };
    args.begin.add_to(&mut wish.request);
    if args.begin.asks(&controller) {
        let plan = answer(CALL_DEADLINE, client.plan_deployment(wish.request.clone())).await?;
        let nodes = plan.segments.iter().map(|s| s.nodes.len()).sum::<usize>() + plan.absent.len();
        let question =
            format!("Deploy {} {} to {nodes} nodes of {}?", wish.service, wish.version, controller.target().controller);
        if session.ask(&question) == Answer::No {
            return Err(Failure::failed("not confirmed; nothing was changed"));
        }
    }
    let what = Start::Deployment(wish.request);
    let deployment = start(session, &controller, &mut client, &wish.service, &what).await?;
    Ok(Begun { controller, client, deployment, tests: wish.tests })
}

async fn of_source(
    session: &Session,
    controller: &Controller,
    client: &mut Operator,
    args: &Args,
) -> Result<Wish, Failure> {
    let ready = release_source::provide(session, controller, client, args.source.as_deref()).await?;
    let request = limited_request(client, &ready, &args.rollout).await?;
    let tests = tests_of(&request, &args.rollout, ready.directory);
    Ok(Wish { request, service: ready.release.service, version: ready.release.version, tests })
}

async fn of_plan(client: &mut Operator, id: &str, rollout: &Rollout) -> Result<Wish, Failure> {
    let request = rollout.request_of_plan(id);
    let plan = answer(CALL_DEADLINE, client.plan_deployment(request.clone())).await?;
    plan::fits_environment(&plan, rollout)?;
    // A plan shows its gates in words only; one that is not for this machine is not run here.
    let tests = if plan.gates.is_empty() { Tests::Elsewhere } else { Tests::Here(PathBuf::from(".")) };
    let version = plan.release.map(|r| r.version).unwrap_or_default();
    Ok(Wish { request, service: plan.service, version, tests })
}

/// The request for a release, with the nodes it is limited to.
pub(super) async fn limited_request(
    client: &mut Operator,
    ready: &Ready,
    rollout: &Rollout,
) -> Result<v1::DeploymentRequest, Failure> {
    let mut request = rollout.request(&ready.release.id, &ready.defaults);
    if rollout.limit.is_given() {
        // Who the release is meant for is the controller's to say; a limit only leaves nodes out.
        let all = v1::DeploymentRequest {
            release: request.release.clone(),
            environment: request.environment.clone(),
            ..v1::DeploymentRequest::default()
        };
        let meant = answer(CALL_DEADLINE, client.plan_deployment(all)).await?;
        limit::add_to(&mut request, rollout.limit.resolve(client, &meant).await?);
    }
    Ok(request)
}

/// Who runs the tests that a request asks for: this program, if there are any for it. Those of the service file run
/// beside that file, like everything it names.
pub(super) fn tests_of(request: &v1::DeploymentRequest, rollout: &Rollout, directory: Option<PathBuf>) -> Tests {
    if !request.gates.iter().any(runs_here) {
        return Tests::Elsewhere;
    }
    let of_file = directory.filter(|_| !rollout.names_tests());
    Tests::Here(of_file.unwrap_or_else(|| PathBuf::from(".")))
}
