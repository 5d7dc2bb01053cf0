//! Confirm or undo: an agent asks whether it was seen to hold its order, and what it may still undo proves nothing in
//! the end.

use fleet_certs::Dialer;
use fleet_proto::v1;
use fleet_proto::v1::link_client::LinkClient;
use tonic::{Code, Status};

use crate::rig::{Act, Controller, Puppet, eventually, of, to};

async fn ask(
    controller: &Controller,
    who: &Dialer,
    service: &str,
    generation: u64,
    nonce: &str,
) -> Result<v1::ConfirmReply, Status> {
    let request = v1::ConfirmRequest { service: service.into(), generation, nonce: nonce.into() };
    LinkClient::new(controller.dial(who).await).confirm(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_proven_is_confirmed_and_only_to_its_node() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (one, api) = (controller.release("1.0.0").await, controller.release_of("api", "1.0.0").await);
    let alice = controller.join_as("operator", "alice").await;
    let me = &puppets[0].dialer;
    let no = async |who: &Dialer, service: &str, generation: u64, word: &str| {
        let reply = ask(&controller, who, service, generation, "n").await.unwrap();
        assert!(!reply.confirmed && reply.reason.contains(word), "{reply:?}");
        assert_eq!(reply.nonce, "n");
    };
    no(me, "web", 0, "no such order").await;
    no(me, "web", 1, "no such order").await;
    puppets[0].act(&one, Act::Work);
    let request = v1::DeploymentRequest { limit: vec!["n1".into()], confirm_ms: Some(7_000), ..to(&one) };
    let deployment = controller.deploy(request).await;
    controller.until(&deployment.id, |deployment| deployment.waiting_on.contains("not up yet")).await;
    let order = puppets[0].life().orders["web"].clone();
    assert_eq!(order.confirm_ms, 7_000);
    let generation = order.generation;
    no(me, "web", generation, "at work").await;

    puppets[0].act(&one, Act::HoldUnconfirmed);
    controller.until(&deployment.id, |deployment| of(deployment, "n1").state == "proven").await;
    let nonce = "x".repeat(64);
    let yes = ask(&controller, me, "web", generation, &nonce).await.unwrap();
    assert_eq!(yes, v1::ConfirmReply { nonce, confirmed: true, reason: String::new() });
    no(me, "web", generation + 1, "generation").await;
    no(me, "web", generation - 1, "generation").await;
    no(me, "api", generation, "no such order").await;
    no(&puppets[1].dialer, "web", generation, "no such order").await;
    let too_long = ask(&controller, me, "web", generation, &"x".repeat(65)).await.unwrap_err();
    assert_eq!(too_long.code(), Code::InvalidArgument);
    assert_eq!(ask(&controller, me, "../web", 1, "n").await.unwrap_err().code(), Code::InvalidArgument);
    let operator = ask(&controller, &alice, "web", generation, "n").await.unwrap_err();
    assert_eq!(operator.code(), Code::PermissionDenied);
    assert_eq!(operator.metadata().get("fleet-exit").unwrap(), "77");

    // What was seen before a restart was not seen by this controller.
    puppets[0].change(|life| life.mute = true);
    controller.restart().await;
    let reply = ask(&controller, &puppets[0].dialer, "web", generation, "n").await.unwrap();
    assert!(!reply.confirmed && reply.reason.contains("not been observed"), "{reply:?}");
    puppets[0].change(|life| life.mute = false);
    eventually(async || {
        let reply = ask(&controller, &puppets[0].dialer, "web", generation, "n").await.unwrap();
        reply.confirmed.then_some(())
    })
    .await;
    puppets[0].act(&one, Act::Hold);
    assert_eq!(controller.ended(&deployment.id).await.outcome, "converged");

    // A new order is not confirmed by the proof of the old one.
    let two = controller.release("2.0.0").await;
    puppets[0].act(&two, Act::Work);
    controller.deploy(v1::DeploymentRequest { limit: vec!["n1".into()], ..to(&two) }).await;
    let life = puppets[0].until(|life| life.orders["web"].generation > generation).await;
    for generation in [generation, life.orders["web"].generation] {
        let reply = ask(&controller, &puppets[0].dialer, "web", generation, "n").await.unwrap();
        assert!(!reply.confirmed, "{reply:?}");
    }
    // Nor is what was never deployed here.
    let reply = ask(&controller, &puppets[0].dialer, &api.service, 1, "n").await.unwrap();
    assert!(!reply.confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_be_undone_holds_the_next_segment_back() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let one = controller.release("1.0.0").await;
    puppets[0].act(&one, Act::HoldUnconfirmed);
    let request = v1::DeploymentRequest { segments: "2".into(), ..to(&one) };
    let deployment = controller.deploy(request).await;
    let waits = |deployment: &v1::Deployment| deployment.waiting_on.contains("n1 to reach the controller");
    let waiting = controller.until(&deployment.id, waits).await;
    assert_eq!(of(&waiting, "n1").state, "proven", "it counts as proven, so that it can be confirmed");
    controller.restart().await;
    controller.until(&deployment.id, waits).await;
    controller.seen_again("n1").await;
    assert!(!puppets[1].life().orders.contains_key("web"));
    puppets[0].act(&one, Act::Hold);
    assert_eq!(controller.ended(&deployment.id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_only_undo_it_turns_the_deployment_back() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&one).await;
    let before = puppets[1].life().orders["web"].generation;
    puppets[0].act(&two, Act::HoldUnconfirmed);
    let request = v1::DeploymentRequest { segments: "2".into(), node_deadline_ms: 5_000, ..to(&two) };
    let deployment = controller.deploy(request).await;
    let end = controller.ended(&deployment.id).await;
    assert_eq!(end.outcome, "rolled-back", "{end:#?}");
    let facts = controller.facts(&deployment.id).await;
    assert!(
        facts.iter().any(|fact| fact.kind == "node-failed" && fact.text.contains("not yet confirmed")),
        "{facts:#?}"
    );
    assert_eq!(puppets[1].life().orders["web"].generation, before);
}

/// A node that joins is ordered in the last round, where no segment bakes any more.
async fn verifying_a_newcomer(controller: &mut Controller, deadline_ms: u64) -> (String, Puppet, v1::Release) {
    let puppets = controller.puppets(1).await;
    let one = controller.release("1.0.0").await;
    puppets[0].act(&one, Act::HoldUnconfirmed);
    let request = v1::DeploymentRequest { node_deadline_ms: deadline_ms, ..to(&one) };
    let deployment = controller.deploy(request).await;
    let newcomer = controller.puppet("n2").await;
    newcomer.act(&one, Act::HoldUnconfirmed);
    puppets[0].act(&one, Act::Hold);
    controller.until(&deployment.id, |d| d.waiting_on.contains("n2 (proven, not yet confirmed)")).await;
    controller.restart().await;
    controller.until(&deployment.id, |d| d.waiting_on.contains("n2 (proven, not yet confirmed)")).await;
    (deployment.id, newcomer, one)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_be_undone_is_never_verified() {
    let mut controller = Controller::start().await;
    let (id, _newcomer, _) = verifying_a_newcomer(&mut controller, 2_000).await;
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("unproven", 4));
    let unproven: Vec<_> = end.unproven.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(unproven, ["n2"]);
    assert!(end.unproven[0].detail.contains("not yet confirmed"), "{end:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_in_the_last_round_is_verified() {
    let mut controller = Controller::start().await;
    let (id, newcomer, one) = verifying_a_newcomer(&mut controller, 30_000).await;
    newcomer.act(&one, Act::Hold);
    assert_eq!(controller.ended(&id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_needs_no_confirmation() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&one).await;
    assert_eq!(puppets[0].life().orders["web"].confirm_ms, 30_000, "it is on by default");
    puppets[0].act(&two, Act::Fail);
    let deployment = controller.deploy(to(&two)).await;
    assert_eq!(controller.ended(&deployment.id).await.outcome, "rolled-back");
    assert_eq!(puppets[0].life().orders["web"].confirm_ms, 0);
}
