//! What people say of findings, and what they have put back: bound to what was found, kept over a restart, and told.

use fleet_proto::v1;
use fleet_proto::v1::operator_client::OperatorClient;
use tonic::transport::Channel;

use crate::rig::{Act, Controller, eventually, refused, to};

fn deviation(kind: v1::DeviationKind, path: &str, found: &str, content: u8) -> v1::FileDeviation {
    v1::FileDeviation {
        path: path.into(),
        kind: kind.into(),
        expected: "as released".into(),
        found: found.into(),
        changed_ms: Some(1_000),
        content: Some(fleet::Digest([content; 32]).to_string()),
        by: Some("vim (pid 7), root via alice".into()),
    }
}

async fn report(operator: &mut OperatorClient<Channel>) -> v1::DriftReport {
    operator.drift(v1::DriftRequest { fresh: true, ..Default::default() }).await.unwrap().into_inner()
}

async fn until_report(
    operator: &mut OperatorClient<Channel>,
    is: impl Fn(&v1::DriftReport) -> bool,
) -> v1::DriftReport {
    eventually(async || {
        let report = report(operator).await;
        is(&report).then_some(report)
    })
    .await
}

async fn ledger(operator: &mut OperatorClient<Channel>) -> Vec<(String, String)> {
    let lines = operator.read_ledger(v1::ReadLedgerRequest::default()).await.unwrap().into_inner().lines;
    lines.into_iter().rev().map(|line| (line.entry, line.why)).collect()
}

fn accept(what: &str) -> v1::AcceptFindingRequest {
    v1::AcceptFindingRequest { node: "n1".into(), what: what.into(), reason: "OPS-1".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_covers_what_was_found_and_nothing_else() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    let first = controller.release("1.0.0").await;
    controller.converge(&first).await;
    let mut operator = controller.operator().await;
    puppets[0].change(|life| life.deviations = vec![deviation(v1::DeviationKind::File, "etc/conf", "b", 1)]);
    let seen = until_report(&mut operator, |report| report.drifted == 1).await;
    let finding = &seen.findings[0];
    assert_eq!((finding.origin.as_str(), finding.by.as_str()), ("after-deployment", "vim (pid 7), root via alice"));
    assert!(finding.changed_at_ms.is_some_and(|at| at < finding.since_ms));

    let no_reason = v1::AcceptFindingRequest { reason: " ".into(), ..accept("etc/conf") };
    refused(operator.accept_finding(no_reason).await).says(65, &["without a reason"]);
    refused(operator.accept_finding(accept("etc/other")).await).says(1, &["nothing is found"]);
    operator.accept_finding(accept("etc/conf")).await.unwrap();
    let covered = report(&mut operator).await;
    assert_eq!((covered.drifted, covered.accepted, covered.compliant), (0, 1, 0), "{covered:?}");
    assert_eq!(covered.findings[0].accepted.as_ref().unwrap().by, "admin");
    let proofs = operator.verify(v1::VerifyRequest::default()).await.unwrap().into_inner();
    assert!(proofs.proofs.is_empty() && proofs.findings.len() == 1, "an acceptance proves nothing: {proofs:?}");

    // It outlives the controller, and not the next change: other bytes at the same path with the same words.
    controller.restart().await;
    let mut operator = controller.operator().await;
    let covered =
        until_report(&mut operator, |report| report.unobserved.is_empty() && !report.findings.is_empty()).await;
    assert_eq!((covered.drifted, covered.accepted), (0, 1), "{covered:?}");
    puppets[0].change(|life| life.deviations = vec![deviation(v1::DeviationKind::File, "etc/conf", "b", 2)]);
    let again = until_report(&mut operator, |report| report.drifted == 1).await;
    assert!(again.findings[0].accepted.is_none());
    let lines = ledger(&mut operator).await;
    let words: Vec<&str> = lines.iter().map(|(entry, _)| entry.as_str()).collect();
    assert!(words.ends_with(&["opened", "accepted", "changed", "reopened"]), "{lines:?}");
    puppets[0].change(|life| life.deviations.clear());
    until_report(&mut operator, |report| report.findings.is_empty()).await;

    // What may be old code is never accepted.
    puppets[0].change(|life| life.bend("web", "r-000000000000"));
    let bent = until_report(&mut operator, |report| report.drifted == 1).await;
    let version = bent.findings.iter().find(|f| f.kind == "version").unwrap();
    refused(operator.accept_finding(accept(&version.what)).await).says(1, &["cannot be accepted", "old code"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_files_are_counted_and_never_proven() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    controller.converge(&controller.release("1.0.0").await).await;
    let mut operator = controller.operator().await;
    let rule = |glob: &str| v1::IgnoreRule {
        service: "web".into(),
        glob: glob.into(),
        reason: "caches".into(),
        ..Default::default()
    };
    refused(operator.add_ignore_rule(rule("**")).await).says(65, &["matches everything"]);
    operator.add_ignore_rule(rule("cache/**")).await.unwrap();
    puppets[0].change(|life| {
        life.deviations = vec![
            deviation(v1::DeviationKind::Extra, "cache/a", "a file", 1),
            deviation(v1::DeviationKind::Extra, "other", "a file", 1),
            deviation(v1::DeviationKind::Mode, "cache/b", "0777", 1),
        ];
    });
    let seen = until_report(&mut operator, |report| report.drifted == 1).await;
    let mut listed: Vec<&str> = seen.findings.iter().map(|f| f.what.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, ["cache/b", "other"], "only extra files are ignored");
    assert_eq!((seen.ignored, seen.ignored_by), (1, 1));
    let proofs = operator.verify(v1::VerifyRequest::default()).await.unwrap().into_inner();
    assert_eq!((proofs.proofs.len(), proofs.findings.len()), (0, 3), "{proofs:?}");
    let rules = operator.list_ignore_rules(v1::ListIgnoreRulesRequest::default()).await.unwrap().into_inner().rules;
    assert_eq!((rules.len(), rules[0].ignored), (1, 1));
    operator.remove_ignore_rule(rule("cache/**")).await.unwrap();
    assert_eq!(report(&mut operator).await.findings.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_kept_said_until_it_is_over_and_gives_way_to_deployments() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    controller.converge(&controller.release("1.0.0").await).await;
    let mut operator = controller.operator().await;
    let wish = v1::RepairRequest { node: "n1".into(), ..Default::default() };
    let nothing = operator.start_repair(wish.clone()).await.unwrap().into_inner();
    assert_eq!((nothing.id.as_str(), nothing.state.as_str(), nothing.files.len()), ("", "done", 0));
    let other = v1::RepairRequest { service: "db".into(), ..wish.clone() };
    refused(operator.start_repair(other).await).says(1, &["holds no service 'db'"]);

    puppets[0].change(|life| life.deviations = vec![deviation(v1::DeviationKind::File, "bin/web", "b", 1)]);
    let dry = v1::RepairRequest { dry_run: true, ..wish.clone() };
    let planned = operator.start_repair(dry).await.unwrap().into_inner();
    assert_eq!((planned.state.as_str(), planned.files.len()), ("planned", 1), "{planned:?}");
    let repair = operator.start_repair(wish.clone()).await.unwrap().into_inner();
    puppets[0].until(|life| life.repairs.len() == 1).await;
    refused(operator.start_repair(wish.clone()).await).says(75, &["repairs web on n1 already"]);

    // The controller forgets nothing: it is said again, and its end is told to the ledger.
    controller.restart().await;
    let mut operator = controller.operator().await;
    let told = puppets[0].until(|life| life.repairs.len() >= 2).await;
    assert!(told.repairs.iter().all(|order| order.id == repair.id), "{:?}", told.repairs);
    puppets[0].change(|life| {
        life.mends = true;
        let again = life.repairs[0].clone();
        life.mend(again);
    });
    let wait = v1::WaitForRepairRequest { id: repair.id.clone(), timeout_ms: 60_000 };
    let done = operator.wait_for_repair(wait).await.unwrap().into_inner();
    assert_eq!((done.state.as_str(), done.restarted, done.by.as_str()), ("done", true, "admin"), "{done:?}");
    let lines = ledger(&mut operator).await;
    assert!(lines.iter().any(|(entry, why)| entry == "repaired" && why.contains("bin/web (file)")), "{lines:?}");
    assert!(lines.contains(&("closed".into(), "fixed".into())), "{lines:?}");

    // While the service is deployed nothing is put back.
    let next = controller.release("2.0.0").await;
    puppets[0].act(&next, Act::Work);
    let deployment = controller.deploy(to(&next)).await;
    refused(operator.start_repair(wish).await).says(75, &[&deployment.id, "deploys web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_shows_unmasked_is_masked_here() {
    const CANARY: &str = "c4n4ry-7f3a";
    let controller = Controller::start().await;
    let puppets = controller.puppets(1).await;
    controller.converge(&controller.release("1.0.0").await).await;
    let mut operator = controller.operator().await;
    puppets[0].change(|life| {
        life.deviations = vec![deviation(v1::DeviationKind::File, "bin/web", "b", 1)];
        life.files.insert("bin/web".into(), format!("port = 1\npassword = {CANARY}\n"));
    });
    until_report(&mut operator, |report| report.drifted == 1).await;
    let request = v1::ShowFilesRequest { node: "n1".into(), service: String::new() };
    let shown = operator.show_files(request).await.unwrap().into_inner().files;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].expected.as_deref(), Some("1.0.0"));
    assert_eq!(shown[0].found.as_deref(), Some("port = 1\npassword = ***\n"));
    assert!(!format!("{shown:?}").contains(CANARY));
}
