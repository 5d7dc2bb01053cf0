//! A controller over a real socket: who may call what, joining, and agents that lie.
#![allow(clippy::unwrap_used, missing_docs)]

mod rig;

use std::path::Path;
use std::time::Duration;

use fleet::Digest;
use fleet_certs::{Authority, Dialer, Identity, JoinToken, KeyAndCsr, Role};
use fleet_controller::api::TABLE;
use fleet_controller::init;
use fleet_proto::v1::link_client::LinkClient;
use fleet_proto::v1::operator_client::OperatorClient;
use fleet_proto::{PROTOCOL, v1};
use rig::{Agent, Controller, code, finished, statement};
use sha2::Digest as _;
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn who_may_call_what() {
    let controller = Controller::start().await;
    let node = controller.join("node", "n1").await;
    let mut as_node = OperatorClient::new(node.clone());
    let refused = as_node.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("node 'n1'"), "{}", refused.message());
    assert_eq!(refused.metadata().get("fleet-exit").unwrap(), "77");

    let operator = controller.operator().await;
    let channel = controller.join("operator", "alice").await;
    assert_eq!(
        OperatorClient::new(channel.clone()).version(v1::VersionRequest {}).await.unwrap().into_inner().you,
        "alice"
    );
    let fetch = v1::FetchBundleRequest { digest: Digest([0; 32]).to_string(), offset: 0 };
    assert_eq!(
        code(LinkClient::new(channel).fetch_bundle(fetch).await),
        Code::PermissionDenied,
        "an operator is no node"
    );
    drop(operator);

    let token = controller.token("node").await;
    let anonymous =
        Dialer::with_ca_hash(token.ca_hash()).unwrap().channel(&controller.address, "localhost").await.unwrap();
    let refused = OperatorClient::new(anonymous).status(v1::StatusRequest {}).await.unwrap_err();
    assert!(refused.message().contains("none was presented"), "{}", refused.message());

    let dir = tempfile::tempdir().unwrap();
    let foreign = Authority::create(&dir.path().join("pki"), "other").unwrap();
    let key = KeyAndCsr::generate().unwrap();
    let identity = Identity::new(Role::Operator, "admin").unwrap();
    let issued =
        foreign.issue(&key.csr_pem, &identity, &[], Duration::from_secs(60), std::time::SystemTime::now()).unwrap();
    let admin = init::Layout(controller.dir.path()).admin().load().unwrap();
    let dialer = Dialer::new(&admin.ca_pem, Some((&issued.pem, &key.key_pem))).unwrap();
    assert!(dialer.channel(&controller.address, "localhost").await.is_err(), "a certificate of another authority");

    // Signed by the right key, but never issued by this controller: a stolen authority makes no members.
    let own = Authority::load(&init::Layout(controller.dir.path()).authority()).unwrap();
    let forged =
        own.issue(&key.csr_pem, &identity, &[], Duration::from_secs(60), std::time::SystemTime::now()).unwrap();
    let dialer = Dialer::new(&admin.ca_pem, Some((&forged.pem, &key.key_pem))).unwrap();
    assert!(dialer.channel(&controller.address, "localhost").await.is_err(), "a certificate that is not on the list");
}

/// Calls a method with nothing in it, and returns the status that the call is refused with, if it is refused at the door.
async fn knock(channel: &Channel, method: &str) -> Option<Status> {
    let request = http::Request::post(method)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = channel.clone().oneshot(request).await.unwrap();
    Status::from_header_map(response.headers())
}

/// The table itself is held against the .proto files beside it; here every method is called by everyone who may not.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_refused_to_everyone_else() {
    let controller = Controller::start().await;
    let node = controller.join("node", "n1").await;
    let operator = controller.join("operator", "alice").await;
    let token = controller.token("node").await;
    let anonymous = controller.dial(&Dialer::with_ca_hash(token.ca_hash()).unwrap()).await;
    let mut refusals = 0;
    for (method, roles) in TABLE {
        for (channel, role, who) in [
            (&node, Some(Role::Node), "this is node 'n1'"),
            (&operator, Some(Role::Operator), "this is operator 'alice'"),
            (&anonymous, None, "none was presented"),
        ] {
            if roles.is_empty() || role.is_some_and(|role| roles.contains(&role)) {
                continue;
            }
            let refused = knock(channel, method).await.unwrap_or_else(|| panic!("{method} lets {who} in"));
            assert_eq!(refused.code(), Code::PermissionDenied, "{method}: {refused:?}");
            assert!(refused.message().contains(method) && refused.message().contains(who), "{refused:?}");
            assert_eq!(refused.metadata().get("fleet-exit").unwrap(), "77");
            refusals += 1;
        }
    }
    assert_eq!(refusals, 2 * TABLE.iter().filter(|(_, roles)| !roles.is_empty()).count());
    let unknown = knock(&operator, "/fleet.v1.Operator/FormatDisk").await.unwrap();
    assert_eq!(unknown.code(), Code::PermissionDenied, "what is not in the table is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_used_once_and_names_are_taken_once() {
    let mut controller = Controller::start().await;
    let token = controller.token("node").await;
    let message = |reply: Result<v1::JoinReply, Status>| reply.unwrap_err().message().to_owned();
    assert!(message(controller.try_join(&token, "wrong", "n1").await.1).contains("secret of the join token is wrong"));
    assert!(controller.try_join(&token, token.secret(), "n1").await.1.is_ok());
    assert!(message(controller.try_join(&token, token.secret(), "n2").await.1).contains("used already"));
    controller.down().await;
    controller.up().await;
    assert!(
        message(controller.try_join(&token, token.secret(), "n2").await.1).contains("used already"),
        "also after a restart"
    );
    let second = controller.token("node").await;
    assert!(message(controller.try_join(&second, second.secret(), "n1").await.1).contains("has already joined"));
    assert!(message(controller.try_join(&second, second.secret(), "../n1").await.1).contains("refused"));
    assert!(controller.try_join(&second, second.secret(), "n2").await.1.is_ok(), "refusals use up nothing");
    let operator = controller.token("operator").await;
    assert!(
        message(controller.try_join(&operator, operator.secret(), "admin").await.1).contains("not made for that name"),
        "nobody becomes another operator"
    );
    let expired = v1::CreateTokenRequest { ttl_ms: 1, uses: 1, ..Default::default() };
    let expired: JoinToken =
        controller.operator().await.create_token(expired).await.unwrap().into_inner().token.parse().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(message(controller.try_join(&expired, expired.secret(), "n3").await.1).contains("expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_races_for_one_token_have_one_winner() {
    let controller = Controller::start().await;
    let token = controller.token("node").await;
    let races = (0..100).map(|i| {
        let (controller, token) = (&controller, &token);
        async move { controller.try_join(token, token.secret(), &format!("n{i}")).await.1.is_ok() }
    });
    let mut won = 0;
    let mut races: Vec<_> = races.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        races.retain_mut(|race| match race.as_mut().poll(context) {
            std::task::Poll::Ready(winner) => {
                won += usize::from(winner);
                false
            }
            std::task::Poll::Pending => true,
        });
        if races.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lies_is_not_believed() {
    let controller = Controller::start().await;
    let mut honest = Agent::connect(controller.join("node", "n1").await, "n1").await;
    let mut liar = Agent::connect(controller.join("node", "n2").await, "n2").await;
    let release = controller.release("1.0.0").await;
    let compared = controller.compared(&release).await;
    (honest.compared, liar.compared) = (compared.clone(), compared);
    let mut operator = controller.operator().await;
    let request = v1::DeploymentRequest {
        release: release.id.clone(),
        segments: "1".into(),
        node_deadline_ms: 10_000,
        on_failure: "stop".into(),
        ..Default::default()
    };
    let deployment = operator.start_deployment(request).await.unwrap().into_inner();
    let (order, nonce) = honest.order_after(0).await;
    let (of_liar, old_nonce) = liar.order_after(0).await;

    // A proof for another node, under the liar's own identity, with the other's nonce.
    liar.attest("n1", &nonce, &order, b"1.0.0").await;
    // The other's nonce under its own name; a made-up one.
    liar.attest("n2", &nonce, &of_liar, b"1.0.0").await;
    liar.attest("n2", &"0".repeat(32), &of_liar, b"1.0.0").await;
    // An answer to a nonce that a newer answer has overtaken: recorded, then replayed.
    let (fresh, _) = liar.challenge().await;
    liar.attest("n2", &fresh, &of_liar, b"old code").await;
    liar.attest("n2", &old_nonce, &of_liar, b"1.0.0").await;
    liar.attest("n2", &fresh, &of_liar, b"1.0.0").await;

    let answering = tokio::spawn(async move {
        honest.attest(&honest.name, &nonce, &order, b"1.0.0").await;
        loop {
            let (nonce, _) = honest.challenge().await;
            honest.attest(&honest.name, &nonce, &order, b"1.0.0").await;
        }
    });
    let end = finished(&mut operator, &deployment.id).await;
    answering.abort();
    assert_eq!(end.outcome, "unproven");
    let of = |name: &str| end.segments[0].nodes.iter().find(|node| node.node == name).unwrap().state.clone();
    assert_eq!((of("n1").as_str(), of("n2").as_str()), ("proven", "failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_there_after_a_restart_and_the_deployment_goes_on() {
    let mut controller = Controller::start().await;
    let dialer = controller.join_as("node", "n1").await;
    let mut agent = Agent::connect(controller.dial(&dialer).await, "n1").await;
    let release = controller.release("1.0.0").await;
    let request = v1::DeploymentRequest { release: "web@1.0.0".into(), ..Default::default() };
    let deployment = controller.operator().await.start_deployment(request.clone()).await.unwrap().into_inner();
    let (order, _) = agent.order_after(0).await;
    let busy = controller.operator().await.start_deployment(request).await.unwrap_err();
    assert_eq!(busy.metadata().get("fleet-exit").unwrap(), "75");
    assert!(busy.message().contains("admin deploys web 1.0.0"), "{}", busy.message());
    controller.down().await;
    controller.up().await;
    let mut operator = controller.operator().await;
    assert_eq!(
        operator.list_releases(v1::ListReleasesRequest::default()).await.unwrap().into_inner().releases[0].id,
        release.id
    );
    let mut agent = Agent::connect(controller.dial(&dialer).await, "n1").await;
    agent.compared = controller.compared(&release).await;
    let (again, nonce) = agent.order_after(0).await;
    assert_eq!(again, order, "the same order is said again");
    let answering = tokio::spawn(async move {
        agent.attest("n1", &nonce, &again, b"1.0.0").await;
        loop {
            let (nonce, _) = agent.challenge().await;
            agent.attest("n1", &nonce, &again, b"1.0.0").await;
        }
    });
    assert_eq!(finished(&mut operator, &deployment.id).await.outcome, "converged");
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_asked_for_right_after_a_start_waits_for_the_agents() {
    let mut controller = Controller::start().await;
    let dialer = controller.join_as("node", "n1").await;
    controller.release("1.0.0").await;
    controller.down().await;
    controller.up().await;
    let mut operator = controller.operator().await;
    let request = v1::DeploymentRequest { release: "web@1.0.0".into(), ..Default::default() };
    let asked = tokio::spawn(async move { operator.start_deployment(request).await });
    let mut agent = Agent::connect(controller.dial(&dialer).await, "n1").await;
    let deployment = asked.await.unwrap().unwrap().into_inner();
    assert_eq!((deployment.segments.len(), deployment.absent.len()), (1, 0), "n1 is there, not absent");
    agent.order_after(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_what_is_known_of_a_node_without_a_proof() {
    let controller = Controller::start().await;
    let mut agent = Agent::connect(controller.join("node", "n1").await, "n1").await;
    controller.release("1.0.0").await;
    let request = v1::DeploymentRequest { release: "web@1.0.0".into(), ..Default::default() };
    let mut operator = controller.operator().await;
    operator.start_deployment(request).await.unwrap();
    let (order, _) = agent.order_after(0).await;

    // A round in which the node answers every challenge with this, or none at all.
    let found = async |agent: &mut Agent, evidence: Option<v1::ServiceEvidence>| {
        let request = v1::VerifyRequest { service: "web".into(), timeout_ms: 1_500, ..Default::default() };
        let mut operator = controller.operator().await;
        let asked = operator.verify(request);
        let answering = async {
            loop {
                let (nonce, _) = agent.challenge().await;
                if let Some(evidence) = &evidence {
                    agent.say("n1", &nonce, evidence.clone()).await;
                }
            }
        };
        let reply = tokio::select! {
            reply = asked => reply.unwrap().into_inner(),
            () = answering => unreachable!("an agent answers for ever"),
        };
        assert!(reply.proofs.is_empty(), "{reply:?}");
        reply.findings.into_iter().map(|finding| finding.found).collect::<Vec<_>>()
    };
    let working_at = |generation| v1::ServiceEvidence {
        service: "web".into(),
        generation,
        progress: Some(v1::service_evidence::Progress::Working(v1::Working {
            step: "fetch".into(),
            detail: "3 of 9".into(),
        })),
        health: Some(v1::service_evidence::Health::HealthUnknown(v1::HealthUnknown {})),
        ..Default::default()
    };
    // On a slow machine the ledger has something to say first: of its silence, of an order that it does not take in.
    let silent = found(&mut agent, None).await.join("");
    assert!(!silent.is_empty() && !silent.contains("at work"), "{silent}");
    let behind = found(&mut agent, Some(working_at(0))).await.join("");
    assert!(behind.contains("the order in") && !behind.contains("at work"), "{behind}");
    let at_work = found(&mut agent, Some(working_at(order.generation))).await;
    assert_eq!(at_work, ["the agent is at work: fetch: 3 of 9"]);
}

/// A permit that ends while its controller is there would keep a service down that ends by itself in a quiet night.
#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_renewed_for_as_long_as_the_link_stands() {
    let mut controller = Controller::start().await;
    controller.down().await;
    controller.up_with(|config| config.permit = fleet::Millis(500)).await;
    let mut agent = Agent::connect(controller.join("node", "n1").await, "n1").await;
    let mut told = 0;
    while told < 4 {
        let (nonce, orders) = agent.challenge().await;
        told += usize::from(orders.is_some());
        agent.state(statement("n1", &nonce)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_that_are_not_what_they_say_are_refused() {
    let controller = Controller::start().await;
    let junk = b"not a bundle".to_vec();
    let digest = Digest(sha2::Sha256::digest(&junk).into());
    let refused = controller.upload(digest, junk.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.metadata().get("fleet-exit").unwrap().to_str().unwrap()),
        (Code::InvalidArgument, "65")
    );
    let refused = controller.upload(Digest([1; 32]), junk).await.unwrap_err();
    assert!(refused.message().contains("was announced"), "{}", refused.message());
    let kept = std::fs::read_dir(controller.dir.path().join("artifacts")).unwrap().count();
    assert_eq!(kept, 0, "nothing of a refused upload is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_gone_at_once() {
    let controller = Controller::start().await;
    let channel = controller.join("node", "n1").await;
    let mut agent = Agent::connect(channel.clone(), "n1").await;
    agent.challenge().await;
    let mut operator = controller.operator().await;
    let request = v1::RemoveNodeRequest { name: "n1".into(), reason: "retired".into() };
    assert!(operator.remove_node(request.clone()).await.unwrap().into_inner().was_connected);
    while let Ok(Some(_)) = agent.from_controller.message().await {}
    let hello = v1::FromAgent {
        message: Some(v1::from_agent::Message::Hello(v1::Hello { protocol: PROTOCOL, ..Default::default() })),
    };
    assert!(LinkClient::new(channel).session(tokio_stream::iter([hello])).await.is_err(), "it cannot come back");
    assert_eq!(code(operator.remove_node(request).await), Code::NotFound);
    assert!(operator.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_host_without_agent_is_a_finding_and_init_is_idempotent() {
    let controller = Controller::start().await;
    assert_eq!(init::init(controller.dir.path(), &["localhost".into()]).await.unwrap(), init::Made::Nothing);
    let mut operator = controller.operator().await;
    let nodes = vec![v1::ImportNode { name: "web-31".into(), ..Default::default() }];
    let reply =
        operator.import_nodes(v1::ImportNodesRequest { nodes, source: "hosts".into() }).await.unwrap().into_inner();
    assert_eq!(reply.added, ["web-31"]);
    loop {
        let report = operator.drift(v1::DriftRequest::default()).await.unwrap().into_inner();
        if let [finding] = &report.findings[..] {
            assert_eq!((finding.kind.as_str(), finding.node.as_str()), ("unmanaged", "web-31"));
            assert_eq!((report.unreachable, report.compliant), (1, 0));
            break;
        }
    }
    assert!(Path::new(controller.dir.path()).join("store").exists());
}
