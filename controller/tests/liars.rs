//! Agents that lie, over real sockets with mutual TLS: whatever they say is refused, is a finding that names what they
//! did, and never part of a proof. And agents that are merely slow, or come back: those are no liars.
#![allow(clippy::unwrap_used, missing_docs)]

mod rig;

use fleet_proto::v1;
use rig::{Agent, Controller, Known, held, of, statement, to};
use tokio::sync::watch;

/// What a liar does with every question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It says that it is done, and runs something else.
    Undone,
    /// It answers, and answers again.
    Twice,
    /// It answers a newer question first.
    OldNonce,
    /// It makes its nonces up.
    NoNonce,
    /// It answers what the honest node was asked.
    OthersNonce,
    /// It sends the honest node's report.
    OthersReport,
    /// It recorded a report in an earlier boot.
    OldBoot,
    /// It recorded a report earlier in this boot.
    OldTime,
    /// Its processes are older than its machine.
    OldProcess,
    /// It recorded a report when it held an earlier order.
    OldOrder,
    /// It holds its answers back.
    Late,
    /// What it says cannot be read.
    Garbled,
    /// There are two of it.
    Clone,
}

impl Lie {
    const ALL: [(Lie, &str); 13] = [
        (Self::Undone, ""),
        (Self::Twice, "answer repeated"),
        (Self::OldNonce, "answer out of order"),
        (Self::NoNonce, "answer without a question"),
        (Self::OthersNonce, "answer to another node's question"),
        (Self::OthersReport, "answer for another node"),
        (Self::OldBoot, "answer of another boot"),
        (Self::OldTime, "answer of an earlier time"),
        (Self::OldProcess, "process older than its boot"),
        (Self::OldOrder, "answer of an earlier order"),
        (Self::Late, "answer too late"),
        (Self::Garbled, "answer that cannot be read"),
        (Self::Clone, "two places at once"),
    ];

    fn node(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What every liar knows.
#[derive(Clone)]
struct World {
    known: Known,
    /// The newest question of the honest node.
    honest: watch::Receiver<String>,
}

impl World {
    /// A report that proves the order.
    fn proof(&self, node: &str, nonce: &str, order: &v1::Order) -> v1::Attestation {
        let Some(v1::order::Hold::Release(release)) = &order.hold else { panic!("an order to hold a release") };
        let known = self.known.clone();
        let held = held(&order.service, order.generation, &release.release, known.executable);
        let service = v1::ServiceEvidence { compared: Some(known.compared), ..held };
        v1::Attestation { services: vec![service], ..statement(node, nonce) }
    }
}

/// A report that the agent is at work.
fn work(node: &str, nonce: &str, order: &v1::Order) -> v1::Attestation {
    use v1::service_evidence::{Health, Progress};
    let working = v1::Working { step: "start".into(), detail: String::new() };
    let service = v1::ServiceEvidence {
        service: order.service.clone(),
        generation: order.generation,
        progress: Some(Progress::Working(working)),
        health: Some(Health::HealthUnknown(v1::HealthUnknown {})),
        ..Default::default()
    };
    v1::Attestation { services: vec![service], ..statement(node, nonce) }
}

/// It is honest until it is ordered something; then it lies, for ever.
async fn lie(mut agent: Agent, how: Lie, world: World) {
    let node = agent.name.clone();
    let mut order: Option<v1::Order> = None;
    let mut held_back: Vec<String> = Vec::new();
    loop {
        let (nonce, orders) = agent.challenge().await;
        order = orders.and_then(|orders| orders.into_iter().next()).or(order);
        let Some(order) = &order else {
            agent.state(statement(&node, &nonce)).await;
            continue;
        };
        let proof = world.proof(&node, &nonce, order);
        let under = |nonce: &str| v1::Attestation { nonce: nonce.into(), ..proof.clone() };
        let told = match how {
            Lie::Undone => {
                let mut undone = proof.clone();
                undone.services[0].processes[0].executable.as_mut().unwrap().digest =
                    Some(fleet::Digest([7; 32]).to_string());
                vec![undone]
            }
            Lie::Twice => vec![work(&node, &nonce, order), proof],
            Lie::OldNonce => match held_back.pop() {
                Some(old) => vec![work(&node, &nonce, order), under(&old)],
                None => {
                    held_back.push(nonce);
                    continue;
                }
            },
            Lie::NoNonce => vec![under(&"0".repeat(32))],
            Lie::OthersNonce => vec![under(&world.honest.borrow())],
            Lie::OthersReport => vec![v1::Attestation { node: "honest".into(), ..proof }],
            Lie::OldBoot => vec![v1::Attestation { boot_id: "a".into(), ..proof }],
            Lie::OldTime => {
                let up_ms = if held_back.is_empty() { 9_000_000 } else { 8_000_000 };
                let first = if held_back.is_empty() { work(&node, &nonce, order) } else { proof };
                held_back.push(nonce);
                vec![v1::Attestation { up_ms: Some(up_ms), ..first }]
            }
            Lie::OldProcess => vec![v1::Attestation { up_ms: Some(held_back.len() as u64), ..proof }],
            Lie::OldOrder => {
                let first = held_back.is_empty();
                held_back.push(nonce.clone());
                let mut old = proof;
                old.services[0].generation -= 1;
                if first { vec![work(&node, &nonce, order)] } else { vec![old] }
            }
            Lie::Late => {
                held_back.push(nonce);
                // A question every fifth of a second: this one is nearly ten seconds old.
                if held_back.len() < 48 {
                    continue;
                }
                vec![under(&held_back.remove(0))]
            }
            Lie::Garbled => vec![under("not a nonce")],
            Lie::Clone => vec![proof],
        };
        for attestation in told {
            agent.state(attestation).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_refused_named_and_held_against_the_agent() {
    let mut controller = Controller::start().await;
    let release = controller.release("1.0.0").await;
    let known = controller.known(&release.id);
    let (asked, honest) = watch::channel(String::new());
    let world = World { known, honest };
    let mut agents = Vec::new();

    let mut agent = Agent::connect(controller.join("node", "honest").await, "honest").await;
    let world_of_honest = world.clone();
    agents.push(tokio::spawn(async move {
        let mut order = None;
        loop {
            let (nonce, orders) = agent.challenge().await;
            order = orders.and_then(|orders| orders.into_iter().next()).or(order);
            asked.send_replace(nonce.clone());
            let told = order.as_ref().map(|order| world_of_honest.proof("honest", &nonce, order));
            agent.state(told.unwrap_or_else(|| statement("honest", &nonce))).await;
        }
    }));
    for (how, _) in Lie::ALL {
        let node = how.node();
        let dialer = controller.join_as("node", &node).await;
        // Of a cloned identity the older stream opened first, and both go on.
        let copies = if how == Lie::Clone { 2 } else { 1 };
        for _ in 0..copies {
            let agent = Agent::connect(controller.dial(&dialer).await, &node).await;
            agents.push(tokio::spawn(lie(agent, how, world.clone())));
            if how != Lie::Clone {
                controller.until_node(&node, |node| node.last_observation_ms.is_some()).await;
            }
        }
    }
    let named = |finding: &v1::Finding, how: Lie, what: &str| {
        finding.node == how.node() && finding.kind == "agent" && finding.what == what
    };
    let clones = "two places at once";
    controller.until_drift(|all| all.iter().any(|found| named(found, Lie::Clone, clones)).then_some(())).await;

    let request = v1::DeploymentRequest { node_deadline_ms: 12_000, on_failure: "stop".into(), ..to(&release) };
    let request = v1::DeploymentRequest { max_failures: "100%".into(), absent_grace_ms: 1, ..request };
    let deployment = controller.deploy(request).await;
    let end = controller.ended(&deployment.id).await;
    assert_eq!((end.outcome.as_str(), end.exit_code), ("unproven", 4), "{end:#?}");
    assert_eq!(of(&end, "honest").state, "verified", "{end:#?}");
    for (how, what) in Lie::ALL {
        let node = of(&end, &how.node());
        assert!(!["proven", "verified"].contains(&node.state.as_str()), "{node:?}");
        assert!(end.unproven.iter().any(|unproven| unproven.node == how.node()), "{how:?} is not named: {end:#?}");
        if !what.is_empty() {
            controller.until_drift(|all| all.iter().any(|found| named(found, how, what)).then_some(())).await;
        }
    }
    // Whoever merely runs something else is no liar of this kind: it is found by what it shows.
    let all = controller.drift().await;
    let of_node = |node: &str| all.iter().filter(|found| found.node == node).collect::<Vec<_>>();
    assert_eq!(of_node("honest"), Vec::<&v1::Finding>::new());
    assert!(of_node("undone").iter().any(|found| found.kind == "process"), "{:?}", of_node("undone"));
    assert!(of_node("undone").iter().all(|found| found.kind != "agent"), "{:?}", of_node("undone"));

    // And a restart of the controller forgives nothing.
    agents.iter().for_each(tokio::task::JoinHandle::abort);
    controller.restart().await;
    let all = controller.drift().await;
    for (how, what) in Lie::ALL.into_iter().filter(|(_, what)| !what.is_empty()) {
        assert!(all.iter().any(|found| named(found, how, what)), "{how:?} is forgotten: {all:#?}");
    }
}

/// An agent that was ordered nothing and answers as long as it is told to.
fn honest(agent: Agent) -> tokio::task::JoinHandle<()> {
    honest_since(agent, "b")
}

/// The same, of another boot.
fn honest_since(mut agent: Agent, boot: &'static str) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (nonce, _) = agent.challenge().await;
            agent.state(v1::Attestation { boot_id: boot.into(), ..statement(&agent.name, &nonce) }).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lie_stays_open_through_honest_answers() {
    let controller = Controller::start().await;
    let mut agent = Agent::connect(controller.join("node", "n1").await, "n1").await;
    let (nonce, _) = agent.challenge().await;
    agent.state(statement("n1", &nonce)).await;
    agent.state(statement("n1", &nonce)).await;
    let repeated = |all: &[v1::Finding]| all.iter().any(|found| found.what == "answer repeated").then_some(());
    controller.until_drift(repeated).await;
    for _ in 0..30 {
        let (nonce, _) = agent.challenge().await;
        agent.state(statement("n1", &nonce)).await;
    }
    let found = controller.drift().await;
    assert_eq!(found.iter().map(|found| found.what.as_str()).collect::<Vec<_>>(), ["answer repeated"]);
    assert_eq!((found[0].kind.as_str(), found[0].severity.as_str()), ("agent", "critical"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_or_comes_back_has_not_lied() {
    let controller = Controller::start().await;
    let dialer = controller.join_as("node", "n1").await;
    let mut agent = Agent::connect(controller.dial(&dialer).await, "n1").await;
    // Its answers cross newer questions.
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(agent.challenge().await.0);
    }
    for nonce in &waiting {
        agent.state(statement("n1", nonce)).await;
    }
    // So slow that the question was given up, and young enough that nobody has missed it.
    let mut waiting = Vec::new();
    for _ in 0..9 {
        waiting.push(agent.challenge().await.0);
    }
    for nonce in &waiting {
        agent.state(statement("n1", nonce)).await;
    }
    controller.until_node("n1", |node| node.last_observation_ms.is_some()).await;
    // It dials again while its old stream is still open: half-open, and nobody there.
    let _half_open = agent;
    let second = honest(Agent::connect(controller.dial(&dialer).await, "n1").await);
    controller.seen_again("n1").await;
    second.abort();
    drop(second.await);
    // A reboot.
    let hello = v1::Hello { boot_id: "c".into(), ..Agent::hello() };
    let third = honest_since(Agent::greet(controller.dial(&dialer).await, "n1", hello).await.unwrap(), "c");
    controller.seen_again("n1").await;
    let found = controller.drift().await;
    assert!(found.iter().all(|found| found.kind != "agent"), "{found:#?}");
    third.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_under_one_identity_neither_counts_until_one_is_gone() {
    let controller = Controller::start().await;
    let dialer = controller.join_as("node", "n1").await;
    let first = honest(Agent::connect(controller.dial(&dialer).await, "n1").await);
    controller.seen_again("n1").await;
    let second = honest(Agent::connect(controller.dial(&dialer).await, "n1").await);
    let what = |all: &[v1::Finding], what: &str| all.iter().any(|found| found.what == what).then_some(());
    controller.until_drift(|all| what(all, "two places at once")).await;
    // Both answer all the time, and the node is not observed any more.
    controller.until_drift(|all| all.iter().any(|found| found.kind == "stale").then_some(())).await;
    second.abort();
    drop(second.await);
    controller.seen_again("n1").await;
    controller.until_drift(|all| all.iter().all(|found| found.kind != "stale").then_some(())).await;
    assert!(what(&controller.drift().await, "two places at once").is_some(), "it is remembered");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_number_that_was_used_is_refused() {
    let mut controller = Controller::start().await;
    let dialer = controller.join_as("node", "n1").await;
    let greet = async |controller: &Controller, session| {
        let hello = v1::Hello { session, ..Agent::hello() };
        Agent::greet(controller.dial(&dialer).await, "n1", hello).await.unwrap()
    };
    let mut agent = greet(&controller, 4).await;
    let (nonce, _) = agent.challenge().await;
    agent.state(statement("n1", &nonce)).await;
    controller.until_node("n1", |node| node.last_observation_ms.is_some()).await;
    // The copy of a disk, or a disk that was put back; also after a restart of the controller.
    controller.restart().await;
    for number in [4, 3] {
        let mut copy = greet(&controller, number).await;
        let refused = copy.from_controller.message().await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains(&format!("session {number} after session 4")), "{refused:?}");
    }
    let told = |all: &[v1::Finding]| all.iter().any(|found| found.what == "session repeated").then_some(());
    controller.until_drift(told).await;
    let agent = honest(greet(&controller, 5).await);
    controller.seen_again("n1").await;
    assert!(told(&controller.drift().await).is_some(), "it is remembered");
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_and_decides_nothing() {
    let controller = Controller::start().await;
    let puppet = controller.puppet("n1").await;
    let release = controller.release("1.0.0").await;
    for ahead in [3_600_000, -400 * 86_400_000] {
        puppet.change(|life| life.clock_ahead_ms = Some(ahead));
        let way = if ahead > 0 { "ahead" } else { "behind" };
        let clock = |all: &[v1::Finding]| all.iter().find(|found| found.kind == "clock").cloned();
        let found = controller.until_drift(clock).await;
        assert_eq!((found.node.as_str(), found.severity.as_str()), ("n1", "warning"));
        assert!(found.found.contains(way), "{found:?}");
        // A deployment goes its way: no decision compares the clocks of two machines.
        controller.converge(&release).await;
        puppet.change(|life| life.clock_ahead_ms = Some(0));
        controller.until_drift(|all| all.is_empty().then_some(())).await;
    }
}
