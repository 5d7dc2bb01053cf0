//! One deployment at a time: who asks meanwhile is told who and since when, or waits for the turn.

use fleet_proto::v1;
use fleet_proto::v1::operator_client::OperatorClient;

use crate::rig::{Act, Controller, Puppet, Refused, refused, to};

fn queued(release: &v1::Release) -> v1::DeploymentRequest {
    v1::DeploymentRequest { queue: true, ..to(release) }
}

/// A deployment that does not end until the puppets let it.
async fn stuck(controller: &Controller, puppets: &[Puppet], release: &v1::Release) -> v1::Deployment {
    for puppet in puppets {
        puppet.act(release, Act::Work);
    }
    let deployment = controller.deploy(to(release)).await;
    controller.until(&deployment.id, |deployment| deployment.waiting_on.contains("not up yet")).await
}

fn let_go(puppets: &[Puppet], release: &v1::Release) {
    for puppet in puppets {
        puppet.act(release, Act::Hold);
    }
}

async fn listed(controller: &Controller, service: &str) -> Vec<(String, String)> {
    let request = v1::ListDeploymentsRequest { service: service.into(), limit: 0 };
    let list = controller.operator().await.list_deployments(request).await.unwrap().into_inner().deployments;
    list.into_iter().map(|deployment| (deployment.id, deployment.phase)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_meanwhile_is_told_who_and_since_when_and_where() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    let alice = controller.join_as("operator", "alice").await;
    puppets[1].act(&one, Act::Work);
    let running = controller.deploy(v1::DeploymentRequest { segments: "2".into(), ..to(&one) }).await;
    controller.until(&running.id, |deployment| deployment.segment == Some(1)).await;
    controller.restart().await;
    let by_alice = async |request| {
        let mut operator = OperatorClient::new(controller.dial(&alice).await);
        refused(operator.start_deployment(request).await)
    };
    let busy: Refused = by_alice(to(&two)).await;
    busy.says(75, &["admin deploys web 1.0.0 with", &running.id, "since", "(segment 2/2)"]);
    for way in ["wait", "--queue", "--supersede", "abort"] {
        assert!(busy.help.contains(way), "{busy:?}");
    }
    let plan = controller.plan(to(&two)).await;
    assert!(plan.refused.contains(&running.id), "the plan says it too: {plan:?}");
    let rollback = v1::RollbackRequest { service: "web".into(), to: "2.0.0".into(), options: None };
    let mut operator = controller.operator().await;
    refused(operator.start_rollback(rollback).await).says(75, &[&running.id]);
    let_go(&puppets, &one);
    assert_eq!(controller.ended(&running.id).await.outcome, "converged");
    controller.converge(&two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_wait_in_the_order_of_coming_also_over_a_restart() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let mut releases = Vec::new();
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
        releases.push(controller.release(version).await);
    }
    let api = controller.release_of("api", "1.0.0").await;
    let running = stuck(&controller, &puppets, &releases[0]).await;
    let mut waiting: Vec<v1::Deployment> = Vec::new();
    for release in &releases[1..] {
        while waiting.last().is_some_and(|last| now_ms() <= last.started_at_ms) {}
        waiting.push(controller.deploy(queued(release)).await);
    }
    for (deployment, release) in waiting.iter().zip(&releases[1..]) {
        assert_eq!((deployment.phase.as_str(), deployment.outcome.as_str()), ("queued", ""));
        assert_eq!(deployment.waiting_on, format!("{} to end", running.id));
        assert_eq!(deployment.release.as_ref().unwrap().id, release.id);
        assert_eq!((deployment.started_by.as_str(), deployment.kind.as_str()), ("admin", "rollout"));
    }
    controller.restart().await;
    let again: Vec<_> = listed(&controller, "web").await;
    for deployment in &waiting {
        assert!(again.contains(&(deployment.id.clone(), "queued".into())), "{again:?}");
        assert_eq!(controller.get(&deployment.id).await, *deployment, "it is as it was");
    }
    // Another service waits for nobody.
    controller.converge(&api).await;
    // Who gives up gives up the place, and whoever watches is told.
    let given_up = controller.abort(&waiting[1].id, false).await.unwrap();
    let words = (given_up.phase.as_str(), given_up.outcome.as_str(), given_up.exit_code);
    assert_eq!(words, ("finished", "aborted", 5));
    assert!(given_up.cause.contains("admin"), "{given_up:?}");
    refused(controller.abort(&waiting[1].id, false).await).says(1, &[&waiting[1].id, "over"]);
    let pause = v1::tell_request::Command::Pause(v1::Nothing {});
    refused(controller.tell(&waiting[0].id, pause).await).says(1, &["has not begun"]);

    let_go(&puppets, &releases[0]);
    assert_eq!(controller.ended(&running.id).await.outcome, "converged");
    let first = controller.ended(&waiting[0].id).await;
    let last = controller.ended(&waiting[2].id).await;
    assert_eq!((first.outcome.as_str(), last.outcome.as_str()), ("converged", "converged"));
    assert!(first.finished_at_ms.unwrap() <= last.started_at_ms, "one after the other");
    assert_eq!(puppets[0].life().holds["web"], releases[3].id);
    assert!(puppets[0].life().history.iter().all(|order| !format!("{order:?}").contains(&releases[2].id)));
    controller.restart().await;
    assert_eq!(controller.get(&waiting[1].id).await.outcome, "aborted", "it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_when_its_turn_comes_is_refused_then_and_says_why() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let running = stuck(&controller, &puppets, &new).await;
    let waiting = controller.deploy(queued(&new)).await;
    assert_eq!(waiting.phase, "queued");
    controller.restart().await;
    puppets[0].act(&new, Act::Fail);
    assert_eq!(controller.ended(&running.id).await.outcome, "rolled-back");
    let end = controller.ended(&waiting.id).await;
    assert_eq!((end.phase.as_str(), end.outcome.as_str(), end.exit_code), ("finished", "refused", 1));
    assert!(end.cause.contains("was rolled back by") && end.cause.contains(&running.id), "{end:?}");
    assert_eq!((end.waiting_on.as_str(), end.finished_at_ms.is_some()), ("", true));
    controller.restart().await;
    assert_eq!(controller.get(&waiting.id).await, end, "it is remembered");
    assert_eq!(puppets[0].life().holds["web"], old.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_not_overtaken_by_one_that_could_begin() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    let on = |environment: &str, nodes: &[&str], release: &v1::Release| v1::DeploymentRequest {
        environment: environment.into(),
        limit: nodes.iter().map(|node| (*node).to_owned()).collect(),
        ..queued(release)
    };
    for puppet in &puppets {
        puppet.act(&one, Act::Work);
    }
    let blue = controller.deploy(on("blue", &["n1"], &one)).await;
    let green = controller.deploy(on("green", &["n2"], &one)).await;
    let both = controller.deploy(on("red", &["n1", "n2"], &two)).await;
    while now_ms() <= both.started_at_ms {}
    let later = controller.deploy(on("grey", &["n2"], &two)).await;
    assert_eq!((both.phase.as_str(), later.phase.as_str()), ("queued", "queued"));
    controller.restart().await;
    puppets[1].act(&one, Act::Hold);
    assert_eq!(controller.ended(&green.id).await.outcome, "converged");
    assert_eq!(controller.get(&later.id).await.phase, "queued", "n2 is free, and another one was first");
    puppets[0].act(&one, Act::Hold);
    assert_eq!(controller.ended(&blue.id).await.outcome, "converged");
    let (both, later) = (controller.ended(&both.id).await, controller.ended(&later.id).await);
    assert_eq!((both.outcome.as_str(), later.outcome.as_str()), ("converged", "converged"));
    assert!(both.finished_at_ms.unwrap() <= later.started_at_ms);
}

/// Whether it may begin is asked when its turn comes, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_while_it_waits_is_not_refused_before_its_turn() {
    let controller = Controller::start().await;
    let mut puppets = controller.puppets(1).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    let running = stuck(&controller, &puppets, &one).await;
    let waiting = controller.deploy(queued(&two)).await;
    puppets[0].go_away().await;
    controller.until_node("n1", |node| node.state == "unreachable").await;
    let refusal = refused(controller.operator().await.plan_deployment(to(&two)).await);
    refusal.says(1, &["none of the 1 expected nodes is in contact"]);
    assert_eq!(controller.get(&waiting.id).await.phase, "queued");
    let_go(&puppets, &one);
    puppets[0].come_back();
    assert_eq!(controller.ended(&running.id).await.outcome, "converged");
    assert_eq!(controller.ended(&waiting.id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_without_a_reason() {
    let controller = Controller::start().await;
    let _puppets = controller.puppets(1).await;
    let one = controller.release("1.0.0").await;
    let begun = controller.deploy(queued(&one)).await;
    assert_ne!(begun.phase, "queued");
    assert_eq!(controller.ended(&begun.id).await.outcome, "converged");
}

fn now_ms() -> i64 {
    fleet_controller::clock::now().0
}
