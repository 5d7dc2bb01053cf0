//! The tests that a watching fleetctl runs: when a gate asks for one, it is run here, once per asking, and its answer is
//! told to the controller. Running the command is `test_run`'s, showing it the watch's.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use fleet_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::checks::runs_here;
use crate::client::{CALL_DEADLINE, Controller, Operator, Patience, is_transport, status_failure};
use crate::test_run::{self, Ending, Test};

/// How long a test may take when the controller does not say: what it waits by default.
const WITHIN: Duration = Duration::from_secs(600);
/// Lines of output on their way to the screen.
const LINES_IN_FLIGHT: usize = 1_024;

/// Who runs the tests of a deployment that are run where fleetctl watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tests {
    /// This program, in this directory.
    Here(PathBuf),
    /// Another, or nobody.
    Elsewhere,
}

impl Tests {
    /// What a person who leaves has to know; empty if nothing depends on them.
    pub fn farewell(&self, id: &str) -> String {
        match self {
            Self::Elsewhere => String::new(),
            Self::Here(_) => format!(
                "\nIts tests are run by a fleetctl that watches: until one does, a gate gets no answer, and at its deadline \
                 the deployment halts. Go on running them with: fleetctl wait {id} --run-tests"
            ),
        }
    }
}

/// What happens to a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestEvent {
    /// It is run.
    Begun {
        /// The gate.
        gate: String,
        /// The command line.
        command: String,
    },
    /// It printed a line.
    Line(String),
    /// It ended, and the controller is being told.
    Ended {
        /// The gate.
        gate: String,
        /// How.
        ending: Ending,
    },
    /// The controller did not want the answer: another came first, or nobody asks any more.
    Unwanted {
        /// The gate.
        gate: String,
        /// What it said.
        why: String,
    },
}

/// One asking, to be recognised.
type Asking = (u32, u32, u32);

/// Runs what is asked, one at a time.
#[derive(Debug)]
pub struct Tester {
    tests: Tests,
    controller: Controller,
    begun: BTreeSet<Asking>,
    current: Option<Current>,
    /// Those that were told to stop.
    stopping: Vec<JoinHandle<()>>,
    events: mpsc::Receiver<TestEvent>,
    tell: mpsc::Sender<TestEvent>,
}

#[derive(Debug)]
struct Current {
    asking: Asking,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Tester {
    /// One that has run nothing yet.
    pub fn new(tests: Tests, controller: &Controller) -> Self {
        let (tell, events) = mpsc::channel(LINES_IN_FLIGHT);
        Self {
            tests,
            controller: controller.clone(),
            begun: BTreeSet::new(),
            current: None,
            stopping: Vec::new(),
            events,
            tell,
        }
    }

    /// Who runs the tests.
    pub fn tests(&self) -> &Tests {
        &self.tests
    }

    /// Takes note of a deployment: runs the test it asks for, unless that was done; stops one that it no longer asks for.
    pub fn see(&mut self, deployment: &v1::Deployment, client: &Operator) {
        let Tests::Here(directory) = &self.tests else { return };
        let asked = deployment.gate.as_ref().and_then(asking_of);
        if let Some(current) = self.current.take_if(|current| Some(current.asking) != asked) {
            // It may have ended by itself; then there is nobody to hear it.
            let _ = current.stop.send(());
            self.stopping.retain(|task| !task.is_finished());
            self.stopping.push(current.task);
        }
        let (Some(asking), Some(order)) = (asked, Order::of(deployment, directory.clone())) else { return };
        if self.begun.insert(asking) {
            let (stop, stopped) = oneshot::channel();
            let work = work(order, client.clone(), self.controller.clone(), self.tell.clone(), stopped);
            self.current = Some(Current { asking, stop, task: tokio::spawn(work) });
        }
    }

    /// The next thing that happens to a test; never, where nothing is run.
    pub async fn next(&mut self) -> TestEvent {
        match self.events.recv().await {
            Some(event) => event,
            // Cannot be: this holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// What has happened and was not taken yet.
    pub fn rest(&mut self) -> Vec<TestEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Ends what runs, and returns when it has ended.
    pub async fn stop(&mut self) {
        if let Some(current) = self.current.take() {
            let _ = current.stop.send(());
            self.stopping.push(current.task);
        }
        for task in self.stopping.drain(..) {
            // It ends within the grace that a test is given.
            let _ = task.await;
        }
    }
}

fn asking_of(gate: &v1::GateAsked) -> Option<Asking> {
    let asking = gate.asking.as_ref()?;
    gate.gate.as_ref().filter(|gate| runs_here(gate))?;
    Some((asking.segment, asking.gate, asking.attempt))
}

/// What is to be run and answered.
#[derive(Debug, Clone)]
struct Order {
    deployment: String,
    asking: v1::GateAsking,
    gate: String,
    test: Test,
}

impl Order {
    fn of(deployment: &v1::Deployment, directory: PathBuf) -> Option<Self> {
        let asked = deployment.gate.as_ref()?;
        let gate = asked.gate.as_ref()?;
        let Some(v1::gate::Source::Test(test)) = &gate.source else { return None };
        let asking = asked.asking?;
        let release = deployment.release.clone().unwrap_or_default();
        let environment = vec![
            ("FLEET_DEPLOYMENT", deployment.id.clone()),
            ("FLEET_SERVICE", deployment.service.clone()),
            ("FLEET_VERSION", release.version),
            ("FLEET_RELEASE", release.id),
            ("FLEET_SEGMENT", asking.segment.saturating_add(1).to_string()),
            ("FLEET_SEGMENTS", deployment.segments.len().to_string()),
            ("FLEET_SEGMENT_NODES", asked.nodes.join(" ")),
        ];
        let within = match gate.deadline_ms {
            0 => WITHIN,
            ms => Duration::from_millis(ms),
        };
        Some(Self {
            deployment: deployment.id.clone(),
            asking,
            gate: gate.name.clone(),
            test: Test { command: test.command.clone(), directory, environment, within },
        })
    }
}

async fn work(
    order: Order,
    client: Operator,
    controller: Controller,
    tell: mpsc::Sender<TestEvent>,
    mut stop: oneshot::Receiver<()>,
) {
    let (say, mut said) = mpsc::channel(LINES_IN_FLIGHT);
    let (pass_stop, inner_stop) = oneshot::channel();
    let gate = order.gate.clone();
    // Whoever shows it may be away for a while; a test is not held up by that, and some lines are lost.
    let _ = tell.try_send(TestEvent::Begun { gate: gate.clone(), command: order.test.command.clone() });
    let running = test_run::run(order.test.clone(), say, inner_stop);
    tokio::pin!(running);
    let mut pass_stop = Some(pass_stop);
    let ending = loop {
        tokio::select! {
            ending = &mut running => break ending,
            _ = &mut stop, if pass_stop.is_some() => drop(pass_stop.take()),
            Some(line) = said.recv() => {
                let _ = tell.try_send(TestEvent::Line(line));
            }
        }
    };
    while let Ok(line) = said.try_recv() {
        let _ = tell.try_send(TestEvent::Line(line));
    }
    let Some(ending) = ending else { return };
    let _ = tell.try_send(TestEvent::Ended { gate: gate.clone(), ending: ending.clone() });
    let request = v1::AnswerGateRequest {
        deployment: order.deployment,
        asking: Some(order.asking),
        verdict: ending.verdict.as_str().to_owned(),
        detail: ending.detail,
    };
    tokio::select! {
        refused = answer(request, client, &controller) => {
            if let Some(why) = refused {
                let _ = tell.try_send(TestEvent::Unwanted { gate, why });
            }
        }
        // Nobody asks any more: it was heard, or it is too late.
        _ = &mut stop, if pass_stop.is_some() => {}
    }
}

/// Answers until the controller has heard it; what it said if it did not want it.
async fn answer(request: v1::AnswerGateRequest, mut client: Operator, controller: &Controller) -> Option<String> {
    let mut patience = Patience::new();
    loop {
        match tokio::time::timeout(CALL_DEADLINE, client.answer_gate(request.clone())).await {
            Ok(Ok(_)) => return None,
            Ok(Err(status)) if !is_transport(&status) => return Some(status_failure(&status).what),
            Ok(Err(_)) | Err(_) => {}
        }
        patience.pause().await;
        if let Ok(again) = controller.connect().await {
            client = again;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_test_knows_its_segment() {
        let mut deployment = samples::rolling();
        assert!(Order::of(&deployment, ".".into()).is_none());
        deployment.gate = Some(samples::gate_asked());
        let order = Order::of(&deployment, "/srv".into()).unwrap();
        assert_eq!((order.gate.as_str(), order.test.command.as_str()), ("test", "tests/smoke.sh"));
        assert_eq!(order.test.within, Duration::from_secs(60));
        let value = |name: &str| order.test.environment.iter().find(|(n, _)| *n == name).unwrap().1.clone();
        assert_eq!(value("FLEET_DEPLOYMENT"), "d-7k2m4");
        assert_eq!((value("FLEET_SEGMENT"), value("FLEET_SEGMENTS")), ("2".to_owned(), "4".to_owned()));
        assert_eq!(value("FLEET_SEGMENT_NODES"), "n3 n4");
        assert_eq!((value("FLEET_SERVICE"), value("FLEET_VERSION")), ("shop".to_owned(), "2.3.1".to_owned()));
        assert_eq!(value("FLEET_RELEASE"), "r-9f2c1e7ab310");
    }

    #[test]
    fn only_tests_of_operators_are_run_here() {
        let mut asked = samples::gate_asked();
        assert_eq!(asking_of(&asked), Some((1, 0, 1)));
        asked.gate.as_mut().unwrap().source =
            Some(v1::gate::Source::Test(v1::GateTest { command: "x".into(), from: "controller".into() }));
        assert_eq!(asking_of(&asked), None);
        asked.gate.as_mut().unwrap().source = Some(v1::gate::Source::Approval(v1::GateApproval { required: 1 }));
        assert_eq!(asking_of(&asked), None);
    }

    #[test]
    fn who_leaves_is_told_what_depends_on_them() {
        assert_eq!(Tests::Elsewhere.farewell("d-1"), "");
        assert!(Tests::Here(".".into()).farewell("d-1").contains("fleetctl wait d-1 --run-tests"));
    }
}
