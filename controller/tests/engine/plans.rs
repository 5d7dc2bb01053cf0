//! Plans that are kept: one is carried out exactly as it was shown, or not at all.

use fleet_proto::v1;

use crate::rig::{Act, Controller, of, to};

fn by_plan(plan: &v1::Plan) -> v1::DeploymentRequest {
    v1::DeploymentRequest { plan: plan.id.clone(), ..Default::default() }
}

async fn list(controller: &Controller, service: &str) -> Vec<v1::Plan> {
    let request = v1::ListPlansRequest { service: service.into() };
    controller.operator().await.list_plans(request).await.unwrap().into_inner().plans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_plan_is_carried_out_exactly_as_it_was_shown_and_once() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(3).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    let first = controller.converge(&old).await;
    let request = v1::DeploymentRequest {
        canary: 1,
        segments: "1".into(),
        max_failures: "1".into(),
        on_failure: "stop".into(),
        parallel: "1".into(),
        message: "as planned".into(),
        ..to(&new)
    };
    assert_eq!(controller.plan(request.clone()).await.id, "", "what is not kept has no id");
    let kept = controller.keep(request).await;
    assert_eq!((kept.parent.as_str(), kept.to_change, kept.segments.len()), (first.id.as_str(), 3, 2));
    assert!(puppets.iter().all(|puppet| puppet.ordered("web").as_ref() == Some(&old.id)), "a plan changes nothing");
    controller.restart().await;

    let shown = controller.plan(by_plan(&kept)).await;
    assert_eq!(shown, kept, "it is shown as it was made, also after a restart");
    assert_eq!(list(&controller, "web").await, std::slice::from_ref(&kept));
    let prefix = v1::DeploymentRequest {
        plan: kept.id[..kept.id.len() - 1].into(),
        segments: "3".into(),
        release: old.id.clone(),
        message: "at last".into(),
        ..Default::default()
    };
    let deployment = controller.deploy(prefix).await;
    let end = controller.ended(&deployment.id).await;
    assert_eq!((end.outcome.as_str(), end.plan.as_str()), ("converged", kept.id.as_str()));
    assert_eq!(end.release.unwrap().id, new.id, "the release is the plan's");
    assert_eq!((end.max_failures.as_str(), end.on_failure.as_str(), end.parallel.as_str()), ("1", "stop", "1"));
    assert_eq!(end.message, "at last", "the message is the request's");
    let names = |nodes: &mut dyn Iterator<Item = &String>| nodes.cloned().collect::<Vec<_>>();
    for (planned, done) in kept.segments.iter().zip(&end.segments) {
        let planned = names(&mut planned.nodes.iter().map(|node| &node.node));
        assert_eq!(planned, names(&mut done.nodes.iter().map(|node| &node.node)));
    }
    controller.restart().await;
    let again = controller.deploy_refused(by_plan(&kept)).await;
    again.says(75, &[&kept.id, "stale", &deployment.id, "n1 holds something else"]);
    let unknown = v1::DeploymentRequest { plan: "p-nothing".into(), ..Default::default() };
    controller.deploy_refused(unknown).await.says(1, &["p-nothing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_stale_when_the_fleet_has_changed() {
    let mut controller = Controller::start().await;
    let mut puppets = controller.puppets(3).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let fresh = to(&new);

    let kept = controller.keep(to(&new)).await;
    controller.restart().await;
    let n4 = controller.puppet("n4").await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["stale", "n4 is new"]);

    controller.converge(&old).await;
    let kept = controller.keep(to(&new)).await;
    puppets[2].go_away().await;
    controller.until_plan(&fresh, |plan| !plan.absent.is_empty()).await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n3 has gone", "no contact"]);

    let kept = controller.keep(to(&new)).await;
    puppets[2].come_back();
    controller.until_plan(&fresh, |plan| plan.absent.is_empty()).await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n3 has come back"]);

    controller.until_plan(&fresh, |plan| plan.serving == 4).await;
    let kept = controller.keep(to(&new)).await;
    puppets[0].act(&old, Act::HoldSick);
    controller.until_plan(&fresh, |plan| plan.serving == 3).await;
    controller.restart().await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n1 does not serve any more"]);
    puppets[0].act(&old, Act::Hold);
    controller.until_plan(&fresh, |plan| plan.serving == 4).await;

    let kept = controller.keep(to(&new)).await;
    puppets[1].change(|life| life.disk_free = Some(1));
    controller.until_plan(&fresh, |plan| !plan.blocks.is_empty()).await;
    controller.restart().await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n2: ", "free where releases are kept"]);
    puppets[1].change(|life| life.disk_free = None);
    controller.until_plan(&fresh, |plan| plan.blocks.is_empty()).await;

    let kept = controller.keep(to(&new)).await;
    drop(n4);
    controller.remove("n4", "retired").await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n4 is expected no longer"]);

    // Another deployment that leaves everything as it was is news as well: somebody else was here.
    let kept = controller.keep(to(&new)).await;
    let between = controller.converge(&old).await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["newest deployment", &between.id]);

    // What was bent by hand is not what the plan was made for.
    let kept = controller.keep(to(&new)).await;
    puppets[0].change(|life| life.bend("web", &new.id));
    controller.until_plan(&fresh, |plan| plan.to_change == 2).await;
    controller.deploy_refused(by_plan(&kept)).await.says(75, &["n1 holds something else"]);

    // None of these has begun anything.
    assert!(puppets.iter().all(|puppet| puppet.ordered("web").as_ref() == Some(&old.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_matter_makes_no_plan_stale() {
    let mut controller = Controller::start().await;
    let _puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    let kept = controller.keep(v1::DeploymentRequest { limit: vec!["n1".into()], ..to(&new) }).await;
    // A node that the plan left out, another service, and a new release are no news for it.
    let _n3 = controller.puppet("n3").await;
    controller.release("3.0.0").await;
    let api = controller.release_of("api", "1.0.0").await;
    controller.converge(&api).await;
    controller.restart().await;
    // Right after a start the nodes are waited for, until they have shown what they run.
    let deployment = controller.deploy(by_plan(&kept)).await;
    let end = controller.ended(&deployment.id).await;
    assert_eq!((end.outcome.as_str(), end.limit.as_str()), ("converged", "n1"));
    assert_eq!(end.segments.iter().map(|segment| segment.nodes.len()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_plans_are_kept_and_the_oldest_is_forgotten() {
    let mut controller = Controller::start().await;
    let _puppet = controller.puppet("n1").await;
    let web = controller.release("1.0.0").await;
    let api = controller.release_of("api", "1.0.0").await;
    let mut kept = vec![controller.keep(to(&web)).await];
    // Later by a millisecond at least, so that there is an oldest one.
    while controller.keep(to(&web)).await.made_at_ms == kept[0].made_at_ms {}
    while list(&controller, "").await.len() < 100 {
        kept.push(controller.keep(to(&api)).await);
    }
    let listed = list(&controller, "").await;
    assert!(listed.iter().any(|plan| plan.id == kept[0].id));
    assert!(listed.is_sorted_by_key(|plan| std::cmp::Reverse(plan.made_at_ms)), "newest first");
    assert!(list(&controller, "api").await.iter().all(|plan| plan.service == "api"));
    controller.restart().await;
    assert_eq!(list(&controller, "").await.len(), 100);
    let newest = controller.keep(to(&api)).await;
    let listed = list(&controller, "").await;
    assert_eq!((listed.len(), &listed[0].id), (100, &newest.id));
    controller.deploy_refused(by_plan(&kept[0])).await.says(1, &["no plan", &kept[0].id]);
    controller.restart().await;
    assert_eq!(list(&controller, "").await, listed, "it is forgotten for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_holds_for_what_is_deployed_right_after_a_start() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(3).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    for puppet in &puppets {
        puppet.act(&new, Act::Work);
        puppet.change(|life| life.mute = true);
    }
    controller.restart().await;
    let mut operator = controller.operator().await;
    let request = v1::DeploymentRequest { min_healthy: "2".into(), ..to(&new) };
    let asked = tokio::spawn(async move { operator.start_deployment(request).await });
    // They are back, and have shown nothing yet: that they serve is not known.
    for puppet in &puppets {
        controller.until_node(&puppet.name, |node| node.state != "unreachable").await;
        puppet.change(|life| life.mute = false);
    }
    let deployment = asked.await.unwrap().unwrap().into_inner();
    let working = controller.until(&deployment.id, |d| d.waiting_on.contains("not up yet")).await;
    assert_eq!((working.floor, working.serving), (2, 2), "{working:#?}");
    let ordered = puppets.iter().filter(|puppet| puppet.ordered("web").as_ref() == Some(&new.id)).count();
    assert_eq!(ordered, 1, "two must serve at any time");
    assert!(working.waiting_on.contains("2 more wait for their turn"), "{}", working.waiting_on);
    for puppet in &puppets {
        puppet.act(&new, Act::Hold);
    }
    let end = controller.ended(&deployment.id).await;
    assert_eq!((end.outcome.as_str(), of(&end, "n3").state.as_str()), ("converged", "verified"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_blocks_by_name_unless_it_is_waived() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    puppets[1].change(|life| life.disk_free = Some(10));
    let plan = controller.until_plan(&to(&new), |plan| !plan.blocks.is_empty()).await;
    assert_eq!((plan.blocks.len(), plan.blocks[0].node.as_str()), (1, "n2"));
    assert!(plan.blocks[0].why.contains("free where releases are kept"), "{plan:?}");
    assert!(plan.blocks[0].help.contains("--waive n2="), "{plan:?}");
    controller.restart().await;
    controller.deploy_refused(to(&new)).await.says(1, &["n2: ", "free where releases are kept"]);
    let plan = controller.plan(to(&old)).await;
    assert!(plan.blocks.is_empty(), "what it holds already needs no room: {plan:?}");
    let waiver = v1::Waiver { node: "n2".into(), reason: "it is being cleaned".into(), ..Default::default() };
    let deployment = controller.deploy(v1::DeploymentRequest { waivers: vec![waiver], ..to(&new) }).await;
    // A waiver covers the verdict and not the work: it proved itself, so nothing was waived in the end.
    assert_eq!(controller.ended(&deployment.id).await.outcome, "converged");
}
