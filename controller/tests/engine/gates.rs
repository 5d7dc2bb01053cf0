//! Gates: asked between segments, answered from where their test runs, and never passed without an answer.

use std::path::Path;

use fleet_proto::v1;
use tonic::Status;

use crate::rig::{Controller, Puppet, eventually, refused, to};

fn test(from: &str, command: String) -> v1::Gate {
    let source = v1::gate::Source::Test(v1::GateTest { command, from: from.into() });
    v1::Gate { name: "smoke".into(), source: Some(source), after: 1, deadline_ms: 0 }
}

fn gated(release: &v1::Release, gate: v1::Gate) -> v1::DeploymentRequest {
    v1::DeploymentRequest { segments: "2".into(), gates: vec![gate], ..to(release) }
}

async fn two_nodes(controller: &Controller) -> (Vec<Puppet>, v1::Release, v1::Release) {
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    (puppets, old, new)
}

async fn answer(
    controller: &Controller,
    id: &str,
    asking: Option<v1::GateAsking>,
    verdict: &str,
) -> Result<v1::Deployment, Status> {
    let request =
        v1::AnswerGateRequest { deployment: id.into(), asking, verdict: verdict.into(), detail: "12 of 12".into() };
    controller.operator().await.answer_gate(request).await.map(tonic::Response::into_inner)
}

async fn promote(controller: &Controller, id: &str, retry: bool) {
    let command = v1::tell_request::Command::Promote(v1::Promote { retry });
    controller.tell(id, command).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_answers_and_the_first_answer_counts() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let id = controller.deploy(gated(&new, test("operator", "smoke --all".into()))).await.id;
    let asked = controller.until_phase(&id, "gating").await;
    let gate = asked.gate.clone().unwrap();
    assert_eq!((gate.nodes.as_slice(), gate.gate.unwrap().name.as_str()), (["n1".to_owned()].as_slice(), "smoke"));
    assert_eq!(gate.asking, Some(v1::GateAsking { segment: 0, gate: 0, attempt: 1 }));
    for word in ["segment 1: an answer to the gate smoke", "'smoke --all' where fleetctl watches", "within"] {
        assert!(asked.waiting_on.contains(word), "{}", asked.waiting_on);
    }
    controller.restart().await;
    let again = controller.get(&id).await;
    assert_eq!(again.gate, asked.gate, "the same asking");
    assert_eq!(puppets[1].ordered("web"), Some(old.id));

    let asking = gate.asking;
    for wrong in [
        v1::GateAsking { segment: 1, gate: 0, attempt: 1 },
        v1::GateAsking { segment: 0, gate: 1, attempt: 1 },
        v1::GateAsking { segment: 0, gate: 0, attempt: 2 },
        v1::GateAsking { segment: 0, gate: 0, attempt: 0 },
    ] {
        refused(answer(&controller, &id, Some(wrong), "failed").await).says(1, &["does not ask that"]);
    }
    refused(answer(&controller, &id, asking, "perhaps").await).says(65, &["passed, failed or inconclusive"]);
    refused(answer(&controller, &id, None, "passed").await).says(65, &["names no asking"]);
    answer(&controller, &id, asking, "passed").await.unwrap();
    refused(answer(&controller, &id, asking, "failed").await).says(1, &["does not ask that any more"]);
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    let facts = controller.facts(&id).await;
    let passed: Vec<_> = facts.iter().filter(|fact| fact.kind.starts_with("gate-")).map(|fact| &fact.text).collect();
    assert_eq!(passed, ["gate 1 is asked", "gate 1 passed: 12 of 12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_turns_it_back() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let id = controller.deploy(gated(&new, test("operator", "smoke".into()))).await.id;
    let asked = controller.until_phase(&id, "gating").await.gate.unwrap().asking;
    controller.restart().await;
    answer(&controller, &id, asked, "failed").await.unwrap();
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.cause.as_str()), ("rolled-back", "gate smoke after segment 1: 12 of 12"));
    assert_eq!(puppets[0].life().holds["web"], old.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_never_a_yes_and_a_stale_one_is_none() {
    let mut controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    let id = controller.deploy(gated(&new, test("operator", "smoke".into()))).await.id;
    let first = controller.until_phase(&id, "gating").await.gate.unwrap().asking;
    let halted = answer(&controller, &id, first, "inconclusive").await.unwrap();
    assert_eq!(halted.phase, "halted");
    assert!(halted.halted.contains("gate smoke after segment 1 is inconclusive: 12 of 12"), "{}", halted.halted);
    controller.restart().await;
    promote(&controller, &id, true).await;
    let second = controller.until_phase(&id, "gating").await.gate.unwrap().asking;
    assert_eq!(second.unwrap().attempt, 2);
    refused(answer(&controller, &id, first, "passed").await).says(1, &["does not ask that any more"]);
    assert_eq!(controller.get(&id).await.phase, "gating", "the answer to the first asking has no effect");
    answer(&controller, &id, second, "inconclusive").await.unwrap();
    // Taken as passed by a person, on the record.
    promote(&controller, &id, false).await;
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    assert_eq!(controller.count_facts(&id, "promoted").await, 2);
    assert_eq!(controller.count_facts(&id, "gate-passed").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_nobody_answers_halts() {
    let mut controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    for source in [
        v1::gate::Source::Metric(v1::GateMetric { query: "error_rate".into() }),
        v1::gate::Source::Approval(v1::GateApproval { required: 2 }),
    ] {
        let gate = v1::Gate { name: "g".into(), source: Some(source), after: 0, deadline_ms: 700 };
        let id = controller.deploy(v1::DeploymentRequest { gates: vec![gate], again: true, ..to(&new) }).await.id;
        controller.until_phase(&id, "gating").await;
        controller.restart().await;
        let halted = controller.until_phase(&id, "halted").await;
        assert!(halted.halted.contains("inconclusive: no answer within 700ms"), "{}", halted.halted);
        controller.abort(&id, false).await.unwrap();
        assert_eq!(controller.ended(&id).await.outcome, "aborted");
    }
}

async fn lines(path: &Path, at_least: usize) -> Vec<String> {
    eventually(async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        (lines.len() >= at_least).then_some(lines)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_on_the_controllers_host_answers_by_its_exit_code() {
    let controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let file = controller.dir.path().join("said");
    let say = format!(
        "echo $FLEET_SERVICE $FLEET_VERSION $FLEET_RELEASE $FLEET_SEGMENT/$FLEET_SEGMENTS $FLEET_SEGMENT_NODES $FLEET_DEPLOYMENT > {}",
        file.display()
    );
    let id = controller.deploy(gated(&new, test("controller", format!("{say}; echo no >&2; exit 3")))).await.id;
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), end.cause.as_str()), ("rolled-back", "gate smoke after segment 1: exit 3: no"));
    assert_eq!(lines(&file, 1).await, [format!("web 2.0.0 {} 1/2 n1 {id}", new.id)]);
    assert_eq!(puppets[0].life().holds["web"], old.id);

    let again = v1::DeploymentRequest { again: true, ..gated(&new, test("controller", "exit 75".into())) };
    let id = controller.deploy(again).await.id;
    assert!(controller.until_phase(&id, "halted").await.halted.contains("inconclusive: exit 75"));
    promote(&controller, &id, true).await;
    let halted = controller.until(&id, |deployment| deployment.phase == "halted" && deployment.facts > 10).await;
    assert_eq!(controller.count_facts(&id, "gate-started").await, 2, "it was run again: {}", halted.halted);
    controller.abort(&id, false).await.unwrap();
    controller.ended(&id).await;

    let slow = v1::Gate { deadline_ms: 300, ..test("controller", "exec sleep 600".into()) };
    let id = controller.deploy(v1::DeploymentRequest { again: true, ..gated(&new, slow) }).await.id;
    let halted = controller.until_phase(&id, "halted").await;
    assert!(halted.halted.contains("inconclusive"), "{}", halted.halted);
    controller.abort(&id, false).await.unwrap();
    controller.ended(&id).await;

    let passing = v1::DeploymentRequest { again: true, ..gated(&new, test("controller", "true".into())) };
    let id = controller.deploy(passing).await.id;
    assert_eq!(controller.ended(&id).await.outcome, "converged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_the_controller_did_not_survive_is_run_again() {
    let mut controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    let file = controller.dir.path().join("runs");
    // The first run does not end by itself, the second does.
    let command = format!("echo run >> {file}; [ $(wc -l < {file}) -ge 2 ] || exec sleep 600", file = file.display());
    let id = controller.deploy(gated(&new, test("controller", command))).await.id;
    lines(&file, 1).await;
    let asked = controller.until_phase(&id, "gating").await.gate;
    controller.down().await;
    controller.up().await;
    let end = controller.ended(&id).await;
    assert_eq!((end.outcome.as_str(), lines(&file, 2).await.len()), ("converged", 2));
    assert_eq!(asked.unwrap().asking.unwrap().attempt, 1);
    assert_eq!(controller.count_facts(&id, "gate-started").await, 1, "it is the same asking");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_nobody_asks_for_any_more_is_ended() {
    let controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    let file = controller.dir.path().join("pid");
    let id = controller
        .deploy(gated(&new, test("controller", format!("echo $$ > {}; exec sleep 600", file.display()))))
        .await
        .id;
    let pid = lines(&file, 1).await.remove(0);
    let alive = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep");
    eventually(async || alive().then_some(())).await;
    controller.abort(&id, false).await.unwrap();
    assert_eq!(controller.ended(&id).await.outcome, "aborted");
    eventually(async || (!alive()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_on_a_host_that_does_not_allow_it() {
    let mut controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    let file = controller.dir.path().join("ran");
    let request = gated(&new, test("controller", format!("echo ran > {}", file.display())));
    let kept = controller.keep(request.clone()).await;
    controller.down().await;
    controller.up_with(|config| config.run_tests = false).await;
    let refusal = controller.deploy_refused(request.clone()).await;
    refusal.says(77, &["'smoke' may not run on the controller's host"]);
    assert!(refusal.help.contains("run_tests = true"), "{refusal:?}");
    refused(controller.operator().await.plan_deployment(request).await).says(77, &["may not run"]);
    // Neither does what was kept while it was allowed: nobody can say, so a person has to.
    let id = controller.deploy(v1::DeploymentRequest { plan: kept.id, ..Default::default() }).await.id;
    let halted = controller.until_phase(&id, "halted").await;
    assert!(halted.halted.contains("inconclusive") && halted.halted.contains("run_tests"), "{}", halted.halted);
    assert!(!file.exists());
    // Where fleetctl watches is another matter.
    controller.abort(&id, false).await.unwrap();
    controller.ended(&id).await;
    let id = controller.deploy(gated(&new, test("operator", "smoke".into()))).await.id;
    let asked = controller.until_phase(&id, "gating").await.gate.unwrap().asking;
    answer(&controller, &id, asked, "passed").await.unwrap();
    assert_eq!(controller.ended(&id).await.outcome, "converged");
}
