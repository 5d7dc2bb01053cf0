//! Nodes that join, or are taken out, while a deployment runs.

use fleet_proto::v1;

use crate::rig::{Act, Controller, of, to};

async fn promote(controller: &Controller, id: &str) {
    let command = v1::tell_request::Command::Promote(v1::Promote { retry: false });
    controller.tell(id, command).await.unwrap();
}

fn halting(release: &v1::Release) -> v1::DeploymentRequest {
    v1::DeploymentRequest { pause_after: vec![1], ..to(release) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_is_ordered_last_and_belongs_to_the_verdict() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let id = controller.deploy(halting(&new)).await.id;
    controller.until_phase(&id, "halted").await;
    let late = controller.puppet("n3").await;
    late.act(&new, Act::Work);
    let joined = controller.get(&id).await;
    assert_eq!(joined.joined.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["n3"]);
    assert_eq!((of(&joined, "n3").state.as_str(), late.ordered("web")), ("pending", None), "not ordered yet");
    controller.restart().await;
    assert_eq!(of(&controller.get(&id).await, "n3").state, "pending");
    promote(&controller, &id).await;
    // The other two have proven themselves; the verdict waits for the third.
    let waiting = controller.until(&id, |deployment| deployment.waiting_on.contains("n3 (start: not up yet)")).await;
    assert_eq!((waiting.phase.as_str(), waiting.outcome.as_str()), ("verifying", ""));
    assert_eq!(late.ordered("web"), Some(new.id.clone()));
    controller.restart().await;
    late.act(&new, Act::Hold);
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), of(&end, "n3").state.as_str()), ("converged", "verified"));
    assert_eq!(puppets.len() + end.joined.len(), 3);
    assert_eq!(controller.count_facts(&id, "node-joined").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_and_does_not_prove_itself_makes_it_unproven() {
    let controller = Controller::start().await;
    let _puppets = controller.puppets(1).await;
    let new = controller.release("1.0.0").await;
    let id = controller.deploy(v1::DeploymentRequest { node_deadline_ms: 8_000, ..halting(&new) }).await.id;
    controller.until_phase(&id, "halted").await;
    let late = controller.puppet("n2").await;
    late.act(&new, Act::Fail);
    promote(&controller, &id).await;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "unproven");
    assert_eq!(end.unproven.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["n2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_what_turned_back_is_not_ordered_by_it() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[0].act(&new, Act::Work);
    let id = controller.deploy(to(&new)).await.id;
    let late = controller.puppet("n2").await;
    controller.restart().await;
    puppets[0].act(&new, Act::Fail);
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "rolled-back", "{end:#?}");
    assert!(late.life().history.iter().all(|order| !format!("{order:?}").contains(&new.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_beside_a_limit_takes_no_part() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let id = controller.deploy(v1::DeploymentRequest { limit: vec!["n1".into()], ..halting(&new) }).await.id;
    controller.until_phase(&id, "halted").await;
    let late = controller.puppet("n3").await;
    controller.restart().await;
    assert!(controller.get(&id).await.joined.is_empty());
    promote(&controller, &id).await;
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.joined.len()), ("converged", 0));
    assert_eq!(end.limit, "n1");
    // What was meant for one node is given to no newcomer, neither now nor when it comes back.
    controller.restart().await;
    late.until(|life| life.told >= 2).await;
    controller.seen_again("n3").await;
    assert!(late.life().history.iter().all(|order| !format!("{order:?}").contains(&new.id)), "{:#?}", late.life());
    assert_eq!(puppets[1].life().holds["web"], old.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_is_expected_no_longer_and_the_record_says_why() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(3).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[1].act(&new, Act::Work);
    let id = controller.deploy(to(&new)).await.id;
    controller.until(&id, |deployment| deployment.waiting_on.contains("n2 (start: not up yet)")).await;
    controller.restart().await;
    controller.remove("n2", "its disk died").await;
    controller.restart().await;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "converged");
    let gone = of(&end, "n2");
    assert_eq!(
        (gone.state.as_str(), gone.detail.as_str()),
        ("decommissioned", "decommissioned by admin: its disk died")
    );
    let facts = controller.facts(&id).await;
    let fact = facts.iter().find(|fact| fact.kind == "node-decommissioned").unwrap();
    assert_eq!((fact.node.as_str(), fact.text.as_str()), ("n2", "decommissioned by admin: its disk died"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_left_proves_nothing() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let new = controller.release("1.0.0").await;
    puppets[0].act(&new, Act::Work);
    let id = controller.deploy(to(&new)).await.id;
    controller.remove("n1", "the last one").await;
    assert_eq!(controller.ended(&id).await.outcome, "unproven");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_back_under_its_name_is_another_one() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let id = controller.deploy(halting(&new)).await.id;
    controller.until_phase(&id, "halted").await;
    controller.remove("n2", "reinstalled").await;
    let again = controller.puppet("n2").await;
    controller.restart().await;
    let joined = controller.get(&id).await;
    assert_eq!(joined.joined.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["n2"]);
    assert_eq!(again.ordered("web"), None, "what the old machine held is nothing to the new one");
    promote(&controller, &id).await;
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    assert_eq!(again.life().holds["web"], new.id);
    assert_eq!(puppets[0].life().holds["web"], new.id);
}
