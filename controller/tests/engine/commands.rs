//! What people say to a running deployment: each word has its effect, or a refusal that says what would have one.

use fleet_proto::v1;
use fleet_proto::v1::tell_request::Command;

use crate::rig::{Act, Controller, Puppet, of, refused, to};

const PAUSE: Command = Command::Pause(v1::Nothing {});
const RESUME: Command = Command::Resume(v1::Nothing {});
const PROMOTE: Command = Command::Promote(v1::Promote { retry: false });
const RETRY: Command = Command::Promote(v1::Promote { retry: true });

fn waive(node: &str, reason: &str) -> Command {
    Command::Waive(v1::Waiver { node: node.into(), reason: reason.into(), ..Default::default() })
}

/// Two nodes that hold 1.0.0, and a 2.0.0 for them.
async fn two_nodes(controller: &Controller) -> (Vec<Puppet>, v1::Release, v1::Release) {
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    (puppets, old, new)
}

fn in_two(release: &v1::Release) -> v1::DeploymentRequest {
    v1::DeploymentRequest { segments: "2".into(), ..to(release) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_begins_nothing_and_a_resume_goes_on() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    puppets[0].act(&new, Act::Work);
    let id = controller.deploy(in_two(&new)).await.id;
    controller.until(&id, |deployment| deployment.waiting_on.contains("n1 (start: not up yet)")).await;
    refused(controller.tell(&id, RESUME).await).says(1, &["is not paused"]);
    refused(controller.tell(&id, PROMOTE).await).says(1, &["does not wait to be promoted"]);
    let paused = controller.tell(&id, PAUSE).await.unwrap();
    assert_eq!((paused.phase.as_str(), paused.paused_by.as_str()), ("paused", "admin"));
    assert!(paused.waiting_on.contains("it was paused by admin"), "{}", paused.waiting_on);
    assert!(paused.waiting_on.contains(&format!("fleetctl resume {id}")), "{}", paused.waiting_on);
    let twice = refused(controller.tell(&id, PAUSE).await);
    twice.says(1, &["is paused already, by admin"]);
    assert!(twice.help.contains("fleetctl resume"), "{twice:?}");
    let promote = refused(controller.tell(&id, PROMOTE).await);
    assert!(promote.help.contains("fleetctl resume"), "{promote:?}");

    // What is under way ends, and nothing is begun.
    puppets[0].act(&new, Act::Hold);
    controller.until(&id, |deployment| of(deployment, "n1").state == "proven").await;
    controller.restart().await;
    let paused = controller.until(&id, |deployment| of(deployment, "n1").holds == "2.0.0").await;
    assert_eq!((paused.phase.as_str(), paused.paused_by.as_str()), ("paused", "admin"));
    assert_eq!(of(&paused, "n2").state, "pending");
    assert_eq!(puppets[1].ordered("web"), Some(old.id));
    controller.tell(&id, RESUME).await.unwrap();
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    for kind in ["paused", "resumed"] {
        assert_eq!(controller.count_facts(&id, kind).await, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_halts_after_a_segment_as_asked_and_is_promoted_once() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let id = controller.deploy(v1::DeploymentRequest { pause_after: vec![1], ..in_two(&new) }).await.id;
    let halted = controller.until_phase(&id, "halted").await;
    assert_eq!(halted.halted, "it waits to be promoted after segment 1");
    for word in [&format!("fleetctl promote {id}"), &format!("fleetctl abort {id}"), "within"] {
        assert!(halted.waiting_on.contains(word), "{}", halted.waiting_on);
    }
    controller.restart().await;
    let halted = controller.get(&id).await;
    assert_eq!((halted.phase.as_str(), halted.segment), ("halted", Some(0)));
    assert_eq!(puppets[1].ordered("web"), Some(old.id));
    let resume = refused(controller.tell(&id, RESUME).await);
    resume.says(1, &["was not paused by a person"]);
    assert!(resume.help.contains("fleetctl promote"), "{resume:?}");
    refused(controller.tell(&id, RETRY).await).says(1, &["nothing to try again"]);
    // A person may pause what has halted: then both have to be lifted.
    controller.tell(&id, PAUSE).await.unwrap();
    controller.tell(&id, PROMOTE).await.unwrap();
    let paused = controller.get(&id).await;
    assert_eq!((paused.phase.as_str(), paused.halted.as_str()), ("paused", ""));
    controller.tell(&id, RESUME).await.unwrap();
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    refused(controller.tell(&id, PROMOTE).await).says(1, &["is over"]);
    let nowhere = v1::DeploymentRequest { pause_after: vec![3], ..in_two(&new) };
    controller.deploy_refused(nowhere).await.says(1, &["segment 3", "there are 2"]);
    let zero = v1::DeploymentRequest { pause_after: vec![0], ..in_two(&new) };
    controller.deploy_refused(zero).await.says(65, &["from 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_in_time_and_that_is_a_failure() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let request = v1::DeploymentRequest { pause_after: vec![1], pause_deadline_ms: 1_000, ..in_two(&new) };
    let id = controller.deploy(request).await.id;
    controller.until_phase(&id, "halted").await;
    controller.restart().await;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "rolled-back");
    assert!(end.cause.contains("nobody decided within 1s"), "{}", end.cause);
    assert_eq!(puppets[0].life().holds["web"], old.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_halts_if_asked_and_a_person_goes_past_it() {
    let mut controller = Controller::start().await;
    let (puppets, _, new) = two_nodes(&controller).await;
    puppets[0].act(&new, Act::Fail);
    let id = controller.deploy(v1::DeploymentRequest { on_failure: "pause".into(), ..in_two(&new) }).await.id;
    let halted = controller.until_phase(&id, "halted").await;
    assert!(halted.halted.contains("it failed: 1 failed, 0 allowed"), "{}", halted.halted);
    controller.restart().await;
    let nothing = refused(controller.tell(&id, RETRY).await);
    nothing.says(1, &["nothing to try again"]);
    controller.tell(&id, PROMOTE).await.unwrap();
    puppets[0].act(&new, Act::Hold);
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "converged", "the last round speaks, and it proved itself: {end:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_goes_back_or_leaves_and_may_be_said_twice() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    puppets[1].act(&new, Act::Work);
    let id = controller.deploy(in_two(&new)).await.id;
    controller.until(&id, |deployment| deployment.waiting_on.contains("n2 (start: not up yet)")).await;
    // The way back is stuck as well, so that it can be looked at.
    puppets[1].act(&old, Act::Work);
    let aborted = controller.abort(&id, false).await.unwrap();
    assert_eq!((aborted.phase.as_str(), aborted.cause.as_str()), ("rolling-back", "aborted by admin"));
    controller.restart().await;
    controller.abort(&id, false).await.unwrap();
    assert_eq!(controller.count_facts(&id, "abort-requested").await, 1, "said twice, journaled once");
    let back = controller.until(&id, |deployment| deployment.waiting_on.contains("n2 (start: not up yet)")).await;
    assert!(back.waiting_on.contains("previous release"), "{}", back.waiting_on);
    puppets[1].act(&old, Act::Hold);
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("aborted", 5));
    assert!(puppets.iter().all(|puppet| puppet.life().holds["web"] == old.id));
    for refusal in [refused(controller.abort(&id, false).await), refused(controller.tell(&id, PAUSE).await)] {
        refusal.says(1, &[&id, "is over: aborted"]);
        assert!(refusal.help.contains("fleetctl rollback web"), "{refusal:?}");
    }

    let id = controller.deploy(in_two(&new)).await.id;
    controller.until(&id, |deployment| deployment.waiting_on.contains("n2 (start: not up yet)")).await;
    let end = controller.abort(&id, true).await.unwrap();
    assert_eq!((end.outcome.as_str(), end.exit_code), ("aborted", 5));
    assert_eq!(puppets[0].life().holds["web"], new.id, "everything stays as it is");
    controller.restart().await;
    assert_eq!(controller.get(&id).await.outcome, "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_can_become_leave() {
    let controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    puppets[0].act(&new, Act::Work);
    puppets[0].act(&old, Act::Work);
    let id = controller.deploy(in_two(&new)).await.id;
    controller.abort(&id, false).await.unwrap();
    controller.until(&id, |deployment| deployment.waiting_on.contains("previous release")).await;
    assert_eq!(controller.abort(&id, true).await.unwrap().outcome, "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiver_is_named_reasoned_and_expires() {
    let mut controller = Controller::start().await;
    let (puppets, _, new) = two_nodes(&controller).await;
    puppets[1].act(&new, Act::Work);
    let request = v1::DeploymentRequest { node_deadline_ms: 5_000, ..to(&new) };
    let id = controller.deploy(request.clone()).await.id;
    refused(controller.tell(&id, waive("n9", "gone")).await).says(1, &["'n9' takes no part"]);
    refused(controller.tell(&id, waive("n2", " ")).await).says(65, &["no reason"]);
    refused(controller.tell(&id, waive("../n2", "x")).await).says(65, &["waive"]);
    let waived = controller.tell(&id, waive("n2", "its disk is dying")).await.unwrap();
    let waiver = &waived.waivers[0];
    assert_eq!(
        (waiver.node.as_str(), waiver.reason.as_str(), waiver.by.as_str()),
        ("n2", "its disk is dying", "admin")
    );
    controller.restart().await;
    assert_eq!(controller.get(&id).await.waivers, waived.waivers);
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("converged-with-waivers", 7), "{end:#?}");

    // One that is over before the verdict covers nothing.
    let request = v1::DeploymentRequest {
        waivers: vec![v1::Waiver { node: "n2".into(), reason: "brief".into(), ..Default::default() }],
        waive_for_ms: 1,
        max_failures: "1".into(),
        ..request
    };
    let id = controller.deploy(request).await.id;
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("unproven", 4));
    assert!(end.unproven.iter().any(|node| node.node == "n2"), "{end:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_absent_are_waived_only_by_name_or_by_wish() {
    let mut controller = Controller::start().await;
    let (mut puppets, _, new) = two_nodes(&controller).await;
    puppets[1].go_away().await;
    controller.until_node("n2", |node| node.state == "unreachable").await;
    let request = v1::DeploymentRequest { absent_grace_ms: 500, ..to(&new) };
    let id = controller.deploy(v1::DeploymentRequest { waive_absent: "on holiday".into(), ..request.clone() }).await.id;
    controller.restart().await;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "converged-with-waivers");
    assert_eq!((end.waivers[0].node.as_str(), end.waivers[0].reason.as_str()), ("n2", "on holiday"));
    let id = controller.deploy(request).await.id;
    assert_eq!(controller.ended(&id).await.outcome, "unproven", "without a waiver it is never converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused() {
    let controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    refused(controller.tell("d-nothing", PAUSE).await).says(1, &["d-nothing"]);
    refused(controller.abort("", false).await).says(65, &["no deployment is named"]);
    let silent = v1::TellRequest { deployment: "d-".into(), ..Default::default() };
    assert_eq!(refused(controller.operator().await.tell_deployment(silent).await).exit, 65);
    for (wish, word) in [
        (v1::DeploymentRequest { confirm_ms: Some(1), ..to(&new) }, "too short"),
        (v1::DeploymentRequest { on_failure: "cry".into(), ..to(&new) }, "cry"),
        (v1::DeploymentRequest { limit: vec!["n9".into()], ..to(&new) }, "n9"),
        (v1::DeploymentRequest { order: "backwards".into(), ..to(&new) }, "backwards"),
        (v1::DeploymentRequest { min_healthy: "many".into(), ..to(&new) }, "many"),
        (v1::DeploymentRequest { parallel: "-1".into(), ..to(&new) }, "-1"),
        (v1::DeploymentRequest { segments: "0".into(), ..to(&new) }, "0"),
    ] {
        controller.deploy_refused(wish).await.says(65, &[word]);
    }
}
