//! Signed statements: one for every verification and for every deployment that ends, in one chain that restarts do not
//! break, naming whoever is not proven.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use fleet::Digest;
use fleet::outcome::Outcome;
use fleet::statement::chain::{self, Link};
use fleet::statement::{NodeState, Occasion, PAYLOAD_TYPE, Predicate, Statement, StatementError, Verdict};
use fleet_certs::SealError;
use fleet_controller::init::Layout;
use fleet_proto::v1;
use sha2::Digest as _;

use crate::rig::{Act, Controller, eventually, refused, to};

#[derive(Debug)]
enum Bad {
    Seal(#[expect(dead_code, reason = "shown when a test fails")] SealError),
    Statement(#[expect(dead_code, reason = "shown when a test fails")] StatementError),
}

impl From<SealError> for Bad {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

/// What an envelope states, checked with the fleet's authority, and its place in the chain.
fn open(controller: &Controller, envelope: &[u8]) -> (Predicate, Link) {
    let ca = std::fs::read_to_string(Layout(controller.dir.path()).authority().join("ca.pem")).unwrap();
    let opened = fleet_certs::open(envelope, PAYLOAD_TYPE, &ca, |payload| {
        let statement = Statement::from_payload(payload).map_err(Bad::Statement)?;
        let at = u64::try_from(statement.predicate().made_at.timestamp().0).unwrap();
        Ok::<_, Bad>((statement, UNIX_EPOCH + Duration::from_millis(at)))
    });
    let opened = opened.unwrap();
    let stated = opened.content.predicate().clone();
    let digest = Digest(sha2::Sha256::digest(&opened.payload).into());
    let link = Link { sequence: stated.sequence, previous: stated.previous, digest };
    (stated, link)
}

async fn verify(controller: &Controller, service: &str) -> v1::VerifyReply {
    let request = v1::VerifyRequest { service: service.into(), timeout_ms: 10_000, rehash: false };
    let reply = controller.operator().await.verify(request).await.unwrap().into_inner();
    assert_eq!(reply.no_statement, "");
    reply
}

async fn get(controller: &Controller, sequence: u64, deployment: &str) -> Vec<u8> {
    let request = v1::GetStatementRequest { sequence, deployment: deployment.into() };
    controller.operator().await.get_statement(request).await.unwrap().into_inner().envelope
}

async fn list(controller: &Controller) -> Vec<v1::StatementSummary> {
    let request = v1::ListStatementsRequest { after: 0 };
    controller.operator().await.list_statements(request).await.unwrap().into_inner().statements
}

fn states(stated: &Predicate) -> BTreeMap<String, &NodeState> {
    stated.nodes.iter().map(|entry| (entry.node.to_string(), &entry.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verification_and_every_ending_is_stated_in_one_chain() {
    let mut controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let release = controller.release("1.0.0").await;
    let ended = controller.converge(&release).await;

    let (of_deployment, first) = open(&controller, &get(&controller, 0, &ended.id).await);
    assert_eq!((of_deployment.sequence, of_deployment.previous), (1, None));
    let Occasion::Deployment { id, outcome, actor, .. } = &of_deployment.occasion else { panic!("{of_deployment:?}") };
    assert_eq!((id.as_str(), *outcome, actor.as_str()), (ended.id.as_str(), Outcome::Converged, "admin"));
    assert_eq!(of_deployment.verdict, Verdict::Proven);

    let reply = verify(&controller, "").await;
    let (stated, second) = open(&controller, &reply.statement);
    assert_eq!((stated.verdict, stated.made_at.timestamp().0), (Verdict::Proven, reply.made_at_ms));
    assert_eq!(stated.previous, Some(first.digest));
    for proof in &reply.proofs {
        let entry = stated.nodes.iter().find(|entry| entry.node.as_str() == proof.node).unwrap();
        assert_eq!(entry.expected.as_ref().unwrap().bundle.to_string(), release.bundle);
        let NodeState::Proven { grade, digest, nonce, nonce_drawn_at, .. } = &entry.state else { panic!("{entry:?}") };
        let shown = (grade.to_string(), digest.to_string(), nonce.as_str());
        assert_eq!(shown, (proof.grade.clone(), proof.digest.clone(), proof.nonce.as_str()));
        let Occasion::Verification { began_at, .. } = &stated.occasion else { panic!("{stated:?}") };
        assert!(nonce_drawn_at >= began_at, "no evidence is older than the round");
    }
    assert_eq!(reply.proofs.len(), 2);

    controller.restart().await;
    controller.seen_again("n1").await;
    controller.seen_again("n2").await;
    let again = verify(&controller, "web").await;
    let (_, third) = open(&controller, &again.statement);
    assert_eq!(chain::check(&[first, second, third]).map(|run| run.head.sequence), Ok(3));
    let kept = list(&controller).await;
    assert_eq!(kept.iter().map(|one| one.sequence).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(kept[0].digest, third.digest.to_string());
    for (sequence, link) in [(1, first), (2, second), (3, third)] {
        assert_eq!(open(&controller, &get(&controller, sequence, "").await).1, link, "kept as it was said");
    }
    assert_eq!(get(&controller, 0, "").await, again.statement, "0 is the newest");
    let request = v1::GetStatementRequest { sequence: 9, ..Default::default() };
    refused(controller.operator().await.get_statement(request).await).says(1, &["statement 9"]);
    drop(puppets);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_proven_is_named() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    // A host that is expected and has no agent, and a node that nobody has ordered anything.
    let nodes = vec![v1::ImportNode { name: "n9".into(), labels: [("role".into(), "db".into())].into() }];
    let import = v1::ImportNodesRequest { nodes, source: "hosts".into() };
    controller.operator().await.import_nodes(import).await.unwrap();
    let (stated, _) = open(&controller, &verify(&controller, "").await.statement);
    assert_eq!(states(&stated)["n9"], &NodeState::Unordered {});

    // n2 fails and everything is taken back: proven, and yet not what was asked for.
    puppets[1].act(&new, Act::Fail);
    let id = controller.deploy(v1::DeploymentRequest { node_deadline_ms: 5_000, ..to(&new) }).await.id;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "rolled-back");
    let (stated, _) = open(&controller, &get(&controller, 0, &id).await);
    assert_eq!(stated.verdict, Verdict::Differs);
    assert!(matches!(states(&stated)["n1"], NodeState::Proven { .. }), "{stated:?}");
    assert_eq!(stated.nodes[0].expected.as_ref().unwrap().bundle.to_string(), old.bundle);

    // A node that is gone: named with what is known, in the statement as in the reply.
    drop(puppets);
    let (reply, stated) = eventually(async || {
        let reply = verify(&controller, "web").await;
        let stated = open(&controller, &reply.statement).0;
        states(&stated).values().all(|state| !matches!(state, NodeState::Proven { .. })).then_some((reply, stated))
    })
    .await;
    assert_eq!((stated.verdict, reply.proofs.len()), (Verdict::Differs, 0));
    let NodeState::Unproven { why } = states(&stated)["n1"] else { panic!("{stated:?}") };
    assert!(why.contains("no answer in this round"), "{why}");
    assert_eq!(stated.findings.len(), reply.findings.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waived_node_is_stated_as_waived_with_who_and_why() {
    let controller = Controller::start().await;
    let puppets = controller.puppets(2).await;
    let release = controller.release("1.0.0").await;
    puppets[1].act(&release, Act::Work);
    let waiver = v1::Waiver { node: "n2".into(), reason: "in repair".into(), ..Default::default() };
    let request = v1::DeploymentRequest { waivers: vec![waiver], node_deadline_ms: 5_000, ..to(&release) };
    let id = controller.deploy(request).await.id;
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "converged-with-waivers");
    let (stated, _) = open(&controller, &get(&controller, 0, &id).await);
    assert_eq!(stated.verdict, Verdict::ProvenWithWaivers);
    assert!(matches!(states(&stated)["n2"], NodeState::Waived { .. }), "{stated:?}");
    let waived = &stated.waivers[0];
    assert_eq!((waived.node.as_str(), waived.by.as_str(), waived.reason.as_str()), ("n2", "admin", "in repair"));

    // The waiver let that deployment end. It makes nobody proven.
    let (stated, _) = open(&controller, &verify(&controller, "").await.statement);
    assert_eq!(stated.verdict, Verdict::Differs);
    assert!(matches!(states(&stated)["n2"], NodeState::Unproven { .. }), "{stated:?}");
    assert_eq!(stated.waivers.len(), 1);
}

/// A data directory from before there were statements gets its key at the first start.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_controller_makes_its_key_at_the_first_start() {
    let mut controller = Controller::start().await;
    controller.down().await;
    std::fs::remove_dir_all(controller.dir.path().join("statement-key")).unwrap();
    controller.up().await;
    let (stated, link) = open(&controller, &verify(&controller, "").await.statement);
    assert_eq!((stated.verdict, link.sequence), (Verdict::Unknown, 1), "of an empty fleet nothing is known");
}
