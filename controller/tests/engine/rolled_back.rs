//! A release that was rolled back is marked, and not deployed again by accident.

use fleet_proto::v1;

use crate::rig::{Act, Controller, of, to};

async fn mark(controller: &Controller, release: &v1::Release) -> (String, String) {
    let request = v1::ListReleasesRequest { service: "web".into() };
    let releases = controller.operator().await.list_releases(request).await.unwrap().into_inner().releases;
    let release = releases.into_iter().find(|listed| listed.id == release.id).unwrap();
    (release.rolled_back_by, release.rolled_back_why)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_rolled_back_is_refused_until_it_converges() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[1].act(&new, Act::Fail);
    let bad = controller.deploy(v1::DeploymentRequest { segments: "2".into(), ..to(&new) }).await;
    let end = controller.ended(&bad.id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("rolled-back", 3));
    assert_eq!(of(&end, "n1").holds, "1.0.0", "the node that had succeeded went back as well");
    controller.restart().await;

    assert_eq!(mark(&controller, &old).await.0, "");
    let (by, why) = mark(&controller, &new).await;
    assert_eq!((by.as_str(), why.as_str()), (bad.id.as_str(), "1 failed, 0 allowed"));
    let refused = controller.deploy_refused(to(&new)).await;
    refused.says(1, &["web 2.0.0 was rolled back by", &bad.id, "1 failed"]);
    assert!(refused.help.contains("--again"), "{refused:?}");
    let plan = controller.plan(to(&new)).await;
    assert!(plan.blocks[0].why.contains(&bad.id), "the plan says it too: {plan:?}");
    // To hold it up is not what a plan is for: it may be kept, and is refused when it is carried out.
    let kept = controller.keep(to(&new)).await;
    let by_plan = v1::DeploymentRequest { plan: kept.id, ..Default::default() };
    controller.deploy_refused(by_plan).await.says(1, &["was rolled back by"]);

    puppets[1].act(&new, Act::Hold);
    let again = controller.deploy(v1::DeploymentRequest { again: true, ..to(&new) }).await;
    assert_eq!(controller.ended(&again.id).await.outcome, "converged");
    assert_eq!(mark(&controller, &new).await, (String::new(), String::new()));
    controller.restart().await;
    assert_eq!(mark(&controller, &new).await.0, "", "also after a restart");
    controller.converge(&new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_release_is_not_marked() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[0].act(&new, Act::Work);
    let aborted = controller.deploy(to(&new)).await;
    controller.abort(&aborted.id, false).await.unwrap();
    assert_eq!(controller.ended(&aborted.id).await.outcome, "aborted");
    puppets[0].act(&new, Act::Hold);
    controller.restart().await;
    assert_eq!(mark(&controller, &new).await.0, "");
    controller.converge(&new).await;
}

/// The newest deployment of an environment says nothing of another environment; a release is one release everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_stale_when_its_release_was_rolled_back_elsewhere() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let on = |environment: &str, node: &str, again| v1::DeploymentRequest {
        environment: environment.into(),
        limit: vec![node.into()],
        again,
        ..to(&new)
    };
    let kept = controller.keep(on("production", "n2", false)).await;
    puppets[0].act(&new, Act::Fail);
    let bad = controller.deploy(on("staging", "n1", false)).await;
    assert_eq!(controller.ended(&bad.id).await.outcome, "rolled-back");
    controller.restart().await;
    let by_plan = |plan: v1::Plan| v1::DeploymentRequest { plan: plan.id, ..Default::default() };
    controller.deploy_refused(by_plan(kept)).await.says(75, &["stale", "was rolled back by", &bad.id]);
    // Whoever kept it with `again` knew.
    let kept = controller.keep(on("production", "n2", true)).await;
    let deployment = controller.deploy(by_plan(kept)).await;
    assert_eq!(controller.ended(&deployment.id).await.outcome, "converged");
}

/// Everything that the ledger was ever told, of a controller that is down.
async fn ledger(controller: &Controller) -> Vec<String> {
    let dir = controller.dir.path().join("store");
    let store = fleet_controller::store::open_sled(&dir, fleet_controller::store::OpenMode::Existing).unwrap();
    let lines = store.list("ledger/").await.unwrap();
    lines.into_iter().map(|(_, entry)| String::from_utf8_lossy(&entry.value).into_owned()).collect()
}

/// What differs because a deployment failed, and is on its way back by that very deployment, is not drift; what it
/// leaves as it is, is.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_drift_only_if_it_stays() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[1].act(&new, Act::Fail);
    let bad = controller.deploy(v1::DeploymentRequest { segments: "2".into(), ..to(&new) }).await;
    assert_eq!(controller.ended(&bad.id).await.outcome, "rolled-back");
    controller.down().await;
    assert_eq!(ledger(&controller).await, [""; 0]);

    controller.up().await;
    let stops = v1::DeploymentRequest { on_failure: "stop".into(), again: true, ..to(&new) };
    let bad = controller.deploy(stops).await;
    assert_eq!(controller.ended(&bad.id).await.outcome, "unproven");
    controller.until_node("n2", |node| node.findings > 0).await;
    controller.down().await;
    let told = ledger(&controller).await;
    assert!(told.iter().any(|line| line.contains("opened") && line.contains("start: exit 1")), "{told:#?}");
}
