//! Locks: a person keeps the deployments of others away for a while.

use fleet_certs::Dialer;
use fleet_proto::v1;
use fleet_proto::v1::operator_client::OperatorClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::rig::{Act, Controller, eventually, refused, to};

async fn as_(controller: &Controller, who: &Dialer) -> OperatorClient<Channel> {
    OperatorClient::new(controller.dial(who).await)
}

async fn hold(
    operator: &mut OperatorClient<Channel>,
    service: &str,
    reason: &str,
    for_ms: u64,
) -> Result<v1::Lock, Status> {
    let request = v1::HoldLockRequest { service: service.into(), reason: reason.into(), for_ms };
    operator.hold_lock(request).await.map(tonic::Response::into_inner)
}

async fn release(operator: &mut OperatorClient<Channel>, service: &str) -> Result<v1::Lock, Status> {
    operator.release_lock(v1::ReleaseLockRequest { service: service.into() }).await.map(tonic::Response::into_inner)
}

async fn locks(controller: &Controller) -> Vec<v1::Lock> {
    controller.operator().await.list_locks(v1::ListLocksRequest {}).await.unwrap().into_inner().locks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_keeps_others_away_and_not_its_holder() {
    let mut controller = Controller::start().await;
    let _puppets = controller.puppets(1).await;
    let (web, api) = (controller.release("1.0.0").await, controller.release_of("api", "1.0.0").await);
    let alice = controller.join_as("operator", "alice").await;
    let mut admin = controller.operator().await;
    assert_eq!(refused(hold(&mut admin, "web", "  ", 0).await).exit, 65, "a lock has a reason");
    assert_eq!(refused(hold(&mut admin, "../web", "x", 0).await).exit, 65);
    let lock = hold(&mut admin, "web", "the database moves", 0).await.unwrap();
    assert_eq!((lock.by.as_str(), lock.reason.as_str()), ("admin", "the database moves"));
    assert_eq!(lock.until_ms - lock.since_ms, 8 * 3_600_000);
    controller.restart().await;
    assert_eq!(locks(&controller).await, [lock]);

    let mut by_alice = as_(&controller, &alice).await;
    let away = refused(by_alice.start_deployment(to(&web)).await);
    away.says(75, &["admin has locked web since", "more: the database moves"]);
    assert!(away.help.contains("locks release web"), "{away:?}");
    let plan = by_alice.plan_deployment(to(&web)).await.unwrap().into_inner();
    assert!(plan.refused.contains("admin has locked web"), "{plan:?}");
    let rollback = v1::RollbackRequest { service: "web".into(), to: "1.0.0".into(), options: None };
    refused(by_alice.start_rollback(rollback).await).says(75, &["admin has locked web"]);
    for wish in [
        v1::DeploymentRequest { queue: true, ..to(&web) },
        v1::DeploymentRequest { supersede: true, ..to(&web) },
        v1::DeploymentRequest { again: true, ..to(&web) },
    ] {
        refused(by_alice.start_deployment(wish).await).says(75, &["admin has locked web"]);
    }
    refused(hold(&mut by_alice, "web", "mine", 0).await).says(75, &["admin has locked web"]);
    // Another service is free; so is the holder.
    let other = by_alice.start_deployment(to(&api)).await.unwrap().into_inner();
    assert_eq!(controller.ended(&other.id).await.outcome, "converged");
    controller.converge(&web).await;

    // Anyone may give it back, and whoever comes second is told that there is none.
    assert_eq!(release(&mut by_alice, "web").await.unwrap().by, "admin");
    refused(release(&mut by_alice, "web").await).says(1, &["nobody holds a lock on web"]);
    controller.restart().await;
    assert_eq!(locks(&controller).await, []);
    let mut by_alice = as_(&controller, &alice).await;
    let free = by_alice.start_deployment(to(&web)).await.unwrap().into_inner();
    assert_eq!(controller.ended(&free.id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_a_lease() {
    let mut controller = Controller::start().await;
    let _puppets = controller.puppets(1).await;
    let web = controller.release("1.0.0").await;
    let alice = controller.join_as("operator", "alice").await;
    let mut admin = controller.operator().await;
    let week = hold(&mut admin, "web", "for ever", u64::MAX).await.unwrap();
    assert_eq!(week.until_ms - week.since_ms, 7 * 24 * 3_600_000, "a week at most");
    let brief = hold(&mut admin, "web", "only a moment", 1).await.unwrap();
    assert!(brief.until_ms < week.until_ms, "the holder may change it");
    controller.restart().await;
    eventually(async || locks(&controller).await.is_empty().then_some(())).await;
    let mut by_alice = as_(&controller, &alice).await;
    refused(release(&mut by_alice, "web").await).says(1, &["nobody holds a lock"]);
    let free = by_alice.start_deployment(to(&web)).await.unwrap().into_inner();
    assert_eq!(controller.ended(&free.id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_also_waits_for_the_lock_of_another_and_says_so() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    let alice = controller.join_as("operator", "alice").await;
    puppets[0].act(&one, Act::Work);
    let running = controller.deploy(to(&one)).await;
    let wish = v1::DeploymentRequest { queue: true, ..to(&two) };
    let waiting = as_(&controller, &alice).await.start_deployment(wish).await.unwrap().into_inner();
    hold(&mut controller.operator().await, "web", "looking at it", 0).await.unwrap();
    puppets[0].act(&one, Act::Hold);
    assert_eq!(controller.ended(&running.id).await.outcome, "converged");
    controller.restart().await;
    let still = controller.get(&waiting.id).await;
    assert_eq!(still.phase, "queued");
    assert!(still.waiting_on.contains("admin has locked web"), "{}", still.waiting_on);
    release(&mut controller.operator().await, "web").await.unwrap();
    assert_eq!(controller.ended(&waiting.id).await.outcome, "converged");
}
