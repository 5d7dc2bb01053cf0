//! The self-test of the alarm over the wire: it passes where the alarm fires and falls silent, and in no other case; and
//! while it is at work nobody is called for the decoy, and everybody for real old code.
#![allow(clippy::unwrap_used, missing_docs)]

mod rig;

use fleet_proto::v1;
use rig::{Controller, Puppet, Scan, eventually, refused, to};

/// A node whose agent volunteers; it held 1.0.0 and holds 2.0.0, proven.
async fn volunteer(scan: Scan) -> (Controller, Puppet, v1::Release) {
    let controller = Controller::start().await;
    let puppet = controller.puppet_with("n1", |life| life.volunteers = Some(scan)).await;
    let old = controller.release("1.0.0").await;
    controller.converge(&old).await;
    let new = controller.release("2.0.0").await;
    controller.converge(&new).await;
    puppet.change(|life| life.old = Some(old.id.clone()));
    controller.seen_again("n1").await;
    (controller, puppet, new)
}

async fn selftest(controller: &Controller, deadline_ms: u64) -> Result<v1::SelfTestReport, tonic::Status> {
    let request = v1::SelfTestRequest { node: String::new(), deadline_ms };
    controller.operator().await.self_test(request).await.map(tonic::Response::into_inner)
}

async fn report(controller: &Controller) -> v1::DriftReport {
    controller.operator().await.drift(v1::DriftRequest::default()).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_fires_and_falls_silent_passes_and_calls_nobody() {
    let (mut controller, _puppet, _) = volunteer(Scan::Sees).await;
    assert!(report(&controller).await.self_test.is_none(), "there never was one");
    let watching = async {
        let mut decoys = 0;
        loop {
            let report = report(&controller).await;
            assert!(report.findings.is_empty() && report.drifted == 0, "nobody is called: {report:?}");
            decoys += report.decoys.len();
            assert!(report.decoys.iter().all(|found| found.kind == "old-process" && found.found.contains("self-test")));
            if decoys > 0 {
                return std::future::pending::<()>().await;
            }
        }
    };
    let passed = tokio::select! {
        passed = selftest(&controller, 20_000) => passed.unwrap(),
        () = watching => unreachable!("it watches for ever"),
    };
    assert_eq!((passed.result.as_str(), passed.node.as_str(), passed.by.as_str()), ("passed", "n1", "admin"));
    assert!(passed.found_after_ms.is_some() && passed.closed_after_ms.is_some(), "{passed:?}");
    let after = report(&controller).await;
    assert_eq!((after.self_test.as_ref(), after.decoys.len(), after.compliant), (Some(&passed), 0, 1));
    controller.restart().await;
    assert_eq!(report(&controller).await.self_test, Some(passed), "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_is_broken_fails() {
    for (scan, result, words) in [
        (Scan::Blind, "failed", "not found"),
        (Scan::Misreads, "failed", "taken for 'process'"),
        (Scan::NeverForgets, "failed", "still open"),
        (Scan::Refuses, "unknown", "no tracing here"),
    ] {
        let (controller, _puppet, _) = volunteer(scan).await;
        let ended = selftest(&controller, 6_000).await.unwrap();
        assert_eq!(ended.result, result, "{scan:?}: {ended:?}");
        assert!(ended.detail.contains(words), "{scan:?}: {ended:?}");
        assert_eq!(report(&controller).await.self_test, Some(ended));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_old_code_counts_beside_a_decoy() {
    let (controller, puppet, _) = volunteer(Scan::Sees).await;
    puppet.change(|life| life.forgotten = true);
    let real = |all: &[v1::Finding]| all.iter().any(|found| found.what.contains("pid 815")).then_some(());
    controller.until_drift(real).await;
    let refusal = refused(selftest(&controller, 20_000).await);
    refusal.says(1, &["UNKNOWN", "no node can be tested"]);
    // It appears while a decoy stands: it is told, and the decoy is not.
    puppet.change(|life| life.forgotten = false);
    controller.until_drift(|all| all.is_empty().then_some(())).await;
    puppet.change(|life| life.volunteers = Some(Scan::NeverForgets));
    let watching = async {
        eventually(async || (!report(&controller).await.decoys.is_empty()).then_some(())).await;
        puppet.change(|life| life.forgotten = true);
        let found = controller.until_drift(|all| (!all.is_empty()).then(|| all.to_vec())).await;
        assert!(found.iter().all(|found| found.what.contains("pid 815")), "{found:?}");
        assert_eq!(report(&controller).await.decoys.len(), 1);
    };
    let (ended, ()) = tokio::join!(selftest(&controller, 5_000), watching);
    assert_eq!(ended.unwrap().result, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_never_counts_the_decoy_and_is_never_held_up_by_it() {
    let (controller, puppet, _) = volunteer(Scan::NeverForgets).await;
    let request = v1::SelfTestRequest { node: "n1".into(), deadline_ms: 60_000 };
    let mut operator = controller.operator().await;
    let asked = tokio::spawn(async move { operator.self_test(request).await.map(tonic::Response::into_inner) });
    eventually(async || (!report(&controller).await.decoys.is_empty()).then_some(())).await;
    refused(selftest(&controller, 0).await).says(75, &["at work on n1"]);
    let next = controller.release("3.0.0").await;
    let end = controller.deploy(to(&next)).await;
    assert_eq!(controller.ended(&end.id).await.outcome, "converged");
    let ended = asked.await.unwrap().unwrap();
    assert_eq!(ended.result, "unknown", "{ended:?}");
    assert!(ended.detail.contains("a deployment began"), "{ended:?}");
    drop(puppet);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_volunteer_nothing_is_known_of_the_alarm() {
    let controller = Controller::start().await;
    let _puppet = controller.puppet("n1").await;
    controller.converge(&controller.release("1.0.0").await).await;
    refused(selftest(&controller, 0).await).says(1, &["UNKNOWN", "of 1 nodes 0 volunteer"]);
    let kept = report(&controller).await.self_test.unwrap();
    assert_eq!((kept.result.as_str(), kept.node.as_str()), ("unknown", ""));
    let named = v1::SelfTestRequest { node: "n1".into(), deadline_ms: 0 };
    let mut operator = controller.operator().await;
    refused(operator.self_test(named).await).says(1, &["n1 does not volunteer"]);
    refused(selftest(&controller, 1).await).says(65, &["1ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_takes_the_test_with_it() {
    let (controller, mut puppet, _) = volunteer(Scan::Blind).await;
    let mut operator = controller.operator().await;
    let request = v1::SelfTestRequest { node: "n1".into(), deadline_ms: 60_000 };
    let asked = tokio::spawn(async move { operator.self_test(request).await.map(tonic::Response::into_inner) });
    let running = async || report(&controller).await.self_test.filter(|test| test.result == "running");
    eventually(running).await;
    puppet.go_away().await;
    let ended = asked.await.unwrap().unwrap();
    assert_eq!(ended.result, "unknown");
    assert!(ended.detail.contains("out of contact"), "{ended:?}");
}
