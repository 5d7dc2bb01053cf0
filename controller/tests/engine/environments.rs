//! The same service in two environments: two deployments at once, unless they share a node.

use fleet_proto::v1;

use crate::rig::{Act, Controller, to};

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_run_at_once_unless_they_share_a_node() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(3).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    for puppet in &puppets {
        puppet.act(&one, Act::Work);
        puppet.act(&two, Act::Work);
    }
    let on = |environment: &str, nodes: &[&str], release: &v1::Release| v1::DeploymentRequest {
        environment: environment.into(),
        limit: nodes.iter().map(|node| (*node).to_owned()).collect(),
        ..to(release)
    };
    let blue = controller.deploy(on("blue", &["n1"], &one)).await;
    let green = controller.deploy(on("green", &["n2"], &two)).await;
    controller.restart().await;
    assert_eq!((blue.environment.as_str(), green.environment.as_str()), ("blue", "green"));
    for (deployment, word) in [(&blue, "n1 (start: not up yet)"), (&green, "n2 (start: not up yet)")] {
        controller.until(&deployment.id, |deployment| deployment.waiting_on.contains(word)).await;
    }
    controller.deploy_refused(on("red", &["n3", "n2"], &one)).await.says(75, &[&green.id]);
    controller.deploy_refused(on("blue", &["n3"], &one)).await.says(75, &[&blue.id]);
    // One that shares a node waits for that one only.
    let red = controller.deploy(v1::DeploymentRequest { queue: true, ..on("red", &["n2", "n3"], &one) }).await;
    assert_eq!(red.waiting_on, format!("{} to end", green.id));
    puppets[1].act(&two, Act::Hold);
    assert_eq!(controller.ended(&green.id).await.outcome, "converged");
    assert_eq!(controller.get(&blue.id).await.outcome, "", "blue goes on");
    for puppet in &puppets[1..] {
        puppet.act(&one, Act::Hold);
    }
    assert_eq!(controller.ended(&red.id).await.outcome, "converged");
    assert_eq!(controller.get(&blue.id).await.outcome, "");
    puppets[0].act(&one, Act::Hold);
    assert_eq!(controller.ended(&blue.id).await.outcome, "converged");
    // Each journal has its own nodes and no other.
    for (deployment, stranger) in [(&blue, "n2"), (&green, "n1"), (&red, "n1")] {
        assert!(controller.facts(&deployment.id).await.iter().all(|fact| fact.node != stranger));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_the_service_of_one_environment_is_shared_by_the_next_one() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&one).await;
    puppets[0].act(&two, Act::Work);
    let limited = v1::DeploymentRequest { environment: "blue".into(), limit: vec!["n1".into()], ..to(&two) };
    let blue = controller.deploy(limited).await;
    // Without a limit it is every node that the release is meant for.
    controller
        .deploy_refused(v1::DeploymentRequest { environment: "green".into(), ..to(&one) })
        .await
        .says(75, &[&blue.id]);
    puppets[0].act(&two, Act::Hold);
    assert_eq!(controller.ended(&blue.id).await.outcome, "converged");
}
