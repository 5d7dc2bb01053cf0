//! A deployment that takes the place of the running one.

use fleet_proto::v1;

use crate::rig::{Act, Controller, of, to};

#[tokio::test(flavor = "multi_thread")]
async fn the_old_one_ends_where_it_is_and_the_new_one_goes_back_to_what_was_before_both() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let one = controller.release("1.0.0").await;
    let (two, three) = (controller.release("2.0.0").await, controller.release("3.0.0").await);
    controller.converge(&one).await;
    // n1 has moved to 2.0.0 and is proven; n2 is on its way.
    puppets[1].act(&two, Act::Work);
    let old = controller.deploy(v1::DeploymentRequest { segments: "2".into(), ..to(&two) }).await;
    controller.until(&old.id, |deployment| deployment.waiting_on.contains("n2 (start: not up yet)")).await;
    controller.restart().await;

    puppets[1].act(&three, Act::Work);
    let request = v1::DeploymentRequest { supersede: true, segments: "1".into(), ..to(&three) };
    let new = controller.deploy(request).await;
    assert_eq!(new.supersedes, old.id);
    let end = controller.ended(&old.id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("superseded", 5));
    assert!(end.cause.contains(&new.id) && end.cause.contains("admin"), "{}", end.cause);
    controller.until(&new.id, |deployment| deployment.waiting_on.contains("not up yet")).await;
    controller.restart().await;
    assert_eq!(controller.get(&old.id).await.outcome, "superseded");
    puppets[1].act(&three, Act::Fail);
    let end = controller.ended(&new.id).await;
    assert_eq!(end.outcome, "rolled-back", "{end:#?}");
    for puppet in &puppets {
        assert_eq!(puppet.life().holds["web"], one.id, "{}: not 2.0.0, which was never proven everywhere", puppet.name);
        assert_eq!(of(&end, &puppet.name).holds, "1.0.0");
    }
    // What was superseded has not failed: it is not marked.
    puppets[1].act(&two, Act::Hold);
    controller.converge(&two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseder_of_a_superseder_goes_back_to_the_beginning() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let mut releases = Vec::new();
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
        releases.push(controller.release(version).await);
    }
    controller.converge(&releases[0]).await;
    let mut last = String::new();
    for release in &releases[1..] {
        puppets[0].act(release, Act::Work);
        let deployment = controller.deploy(v1::DeploymentRequest { supersede: true, ..to(release) }).await;
        assert_eq!(deployment.supersedes, last);
        controller.until(&deployment.id, |deployment| deployment.waiting_on.contains("not up yet")).await;
        last = deployment.id;
    }
    puppets[0].act(&releases[3], Act::Fail);
    assert_eq!(controller.ended(&last).await.outcome, "rolled-back");
    assert_eq!(puppets[0].life().holds["web"], releases[0].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_supersedes_nothing() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let (one, two) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&one).await;
    puppets[0].act(&two, Act::Fail);
    let bad = controller.deploy(to(&two)).await;
    assert_eq!(controller.ended(&bad.id).await.outcome, "rolled-back");
    let three = controller.release("3.0.0").await;
    puppets[0].act(&three, Act::Work);
    let running = controller.deploy(to(&three)).await;
    let wish = v1::DeploymentRequest { supersede: true, ..to(&two) };
    controller.deploy_refused(wish).await.says(1, &["was rolled back by"]);
    assert_eq!(controller.get(&running.id).await.outcome, "");
    puppets[0].act(&three, Act::Hold);
    assert_eq!(controller.ended(&running.id).await.outcome, "converged");
}

/// It may stand in the way of two: both end, or nodes would be moved by two at once.
#[tokio::test(flavor = "multi_thread")]
async fn everything_in_the_way_is_superseded() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let one = controller.release("1.0.0").await;
    let (two, three) = (controller.release("2.0.0").await, controller.release("3.0.0").await);
    controller.converge(&one).await;
    let on = |environment: &str, node: &str| v1::DeploymentRequest {
        environment: environment.into(),
        limit: vec![node.into()],
        ..to(&two)
    };
    let mut old = Vec::new();
    for (puppet, environment) in puppets.iter().zip(["blue", "green"]) {
        puppet.act(&two, Act::Work);
        puppet.act(&three, Act::Work);
        let deployment = controller.deploy(on(environment, &puppet.name)).await;
        old.push(controller.until(&deployment.id, |deployment| deployment.waiting_on.contains("not up yet")).await);
    }
    let wish = v1::DeploymentRequest { supersede: true, environment: "green".into(), ..to(&three) };
    let new = controller.deploy(wish).await;
    assert_eq!(new.supersedes, old[1].id, "first of all the one in its own environment");
    controller.restart().await;
    for deployment in &old {
        assert_eq!(controller.get(&deployment.id).await.outcome, "superseded");
    }
    puppets[0].act(&three, Act::Fail);
    let end = controller.ended(&new.id).await;
    assert_eq!(end.outcome, "rolled-back");
    assert!(puppets.iter().all(|puppet| puppet.life().holds["web"] == one.id));
}
