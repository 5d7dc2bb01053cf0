//! Watching a deployment to its end: drawn in place for a person, one line per fact for a log, one object per event for
//! a program. A controller that dies is waited for; Ctrl-C leaves at once, and the deployment goes on.

use std::time::{Duration, Instant};

use fleet::outcome::exit;
use fleet_proto::v1;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Session;
use super::display::Display;
use super::gates::{Tester, Tests};
use crate::client::{Controller, Operator, Patience, is_transport, status_failure};
use crate::failure::Failure;
use crate::output::format::Format;
use crate::output::tally;

/// Frames are drawn at most this often.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// How the watching ended.
#[derive(Debug)]
enum End {
    Finished,
    Reached,
    Detached,
    TimedOut,
}

/// Until when to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The outcome.
    Done,
    /// It has halted, and a person may promote it.
    Promotable,
    /// The segment with this number, from 1, has baked.
    Segment(u32),
}

impl Until {
    /// Whether this is reached.
    pub fn is_reached(self, deployment: &v1::Deployment) -> bool {
        match self {
            Self::Done => !deployment.outcome.is_empty(),
            Self::Promotable => !deployment.halted.is_empty(),
            Self::Segment(n) => {
                let segment =
                    usize::try_from(n).ok().and_then(|n| n.checked_sub(1)).and_then(|i| deployment.segments.get(i));
                segment.is_some_and(|s| s.state == "baked")
            }
        }
    }
}

/// Watches until the end, shows it, and returns the exit code.
///
/// # Errors
/// What the controller answered, unless it was only away.
pub async fn watch(
    session: &Session,
    controller: &Controller,
    client: Operator,
    first: v1::Deployment,
    until: Until,
    tests: Tests,
    format: Format,
) -> Result<u8, Failure> {
    watch_to(session, controller, client, first, until, tests, format).await.1
}

/// The same, with the deployment as it was last seen.
pub(super) async fn watch_to(
    session: &Session,
    controller: &Controller,
    mut client: Operator,
    first: v1::Deployment,
    until: Until,
    tests: Tests,
    format: Format,
) -> (v1::Deployment, Result<u8, Failure>) {
    let mut interrupt = match signal(SignalKind::interrupt()) {
        Ok(interrupt) => interrupt,
        Err(error) => return (first, Err(Failure::failed("cannot wait for Ctrl-C").caused_by(&error))),
    };
    let mut display = Display::new(session, format, first);
    let deadline = session.timeout().map(|t| Instant::now() + t);
    let mut tester = Tester::new(tests, controller);
    let end = follow(controller, &mut client, &mut display, &mut tester, until, deadline, &mut interrupt).await;
    for event in tester.rest() {
        display.test(event);
    }
    display.clear();
    let id = display.deployment.id.clone();
    let farewell = tester.tests().farewell(&id);
    let result = end.map(|end| match end {
        End::Finished => {
            display.finish();
            exit_of(&display.deployment)
        }
        End::Reached => {
            session.screen.say(&format!("{id} has reached what was waited for; it goes on{farewell}"));
            exit::OK
        }
        End::Detached => {
            session.screen.insist(&format!("detached; {id} goes on. Come back with: fleetctl wait {id}{farewell}"));
            exit::DETACHED
        }
        End::TimedOut => {
            session.screen.insist(&format!("timed out; {id} goes on. Come back with: fleetctl wait {id}{farewell}"));
            exit::TIMED_OUT
        }
    });
    // Only now: what was said about it must not wait for a test that is slow to end.
    tester.stop().await;
    (display.deployment, result)
}

/// The exit code of a finished deployment. An outcome this program does not know is never success.
pub fn exit_of(deployment: &v1::Deployment) -> u8 {
    match tally::outcome(deployment) {
        Some(outcome) => outcome.exit_code(),
        None => u8::try_from(deployment.exit_code).ok().filter(|&code| code != exit::OK).unwrap_or(exit::FAILED),
    }
}

async fn follow(
    controller: &Controller,
    client: &mut Operator,
    display: &mut Display<'_>,
    tester: &mut Tester,
    until: Until,
    deadline: Option<Instant>,
    interrupt: &mut Signal,
) -> Result<End, Failure> {
    let mut next_fact = 0;
    let mut patience = Patience::new();
    let timed_out = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timed_out);
    loop {
        let request = v1::WatchDeploymentRequest { deployment: display.deployment.id.clone(), from_fact: next_fact };
        let mut ticks = tokio::time::interval(FRAME_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut stream = None;
        let mut opener = client.clone();
        let opening = async move { opener.watch_deployment(request).await };
        tokio::pin!(opening);
        let broken = loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(End::Detached),
                () = &mut timed_out => return Ok(End::TimedOut),
                _ = ticks.tick() => display.tick(),
                event = tester.next() => display.test(event),
                opened = &mut opening, if stream.is_none() => match opened {
                    Ok(response) => stream = Some(response.into_inner()),
                    Err(status) => break status,
                },
                update = next(&mut stream), if stream.is_some() => match update {
                    Ok(Some(update)) => {
                        patience = Patience::new();
                        if let Some(last) = update.facts.last() {
                            next_fact = last.index + 1;
                        }
                        display.update(update);
                        tester.see(&display.deployment, client);
                        if !display.deployment.outcome.is_empty() {
                            return Ok(End::Finished);
                        }
                        if until.is_reached(&display.deployment) {
                            return Ok(End::Reached);
                        }
                    }
                    // A stream that ends without an outcome was cut by a controller on its way down.
                    Ok(None) => break tonic::Status::unavailable("the stream ended"),
                    Err(status) => break status,
                },
            }
        };
        if !is_transport(&broken) {
            return Err(status_failure(&broken));
        }
        tracing::debug!(%broken, "watching was interrupted");
        display.lost();
        tokio::select! {
            _ = interrupt.recv() => return Ok(End::Detached),
            () = &mut timed_out => return Ok(End::TimedOut),
            again = reconnect(controller, &mut patience) => *client = again?,
        }
    }
}

async fn next(
    stream: &mut Option<tonic::Streaming<v1::DeploymentUpdate>>,
) -> Result<Option<v1::DeploymentUpdate>, tonic::Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// Tries until the controller answers. Only what cannot mend itself ends it: being refused, or a wrong certificate.
async fn reconnect(controller: &Controller, patience: &mut Patience) -> Result<Operator, Failure> {
    loop {
        patience.pause().await;
        match controller.connect().await {
            Ok(client) => return Ok(client),
            Err(failure) if failure.exit == exit::UNAVAILABLE => {}
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{finished, halted, rolling};
    use fleet::Outcome;

    #[test]
    fn an_unknown_outcome_is_never_success() {
        let mut deployment = finished(Outcome::Converged, "verified", "2");
        assert_eq!(exit_of(&deployment), 0);
        deployment.outcome = "better-than-ever".into();
        deployment.exit_code = 0;
        assert_eq!(exit_of(&deployment), 1);
        deployment.exit_code = 9;
        assert_eq!(exit_of(&deployment), 9);
        assert_eq!(exit_of(&finished(Outcome::RolledBack, "verified", "2")), 3);
    }

    #[test]
    fn a_segment_is_reached_when_it_has_baked() {
        assert!(Until::Segment(1).is_reached(&rolling()));
        assert!(!Until::Segment(2).is_reached(&rolling()));
        assert!(!Until::Segment(0).is_reached(&rolling()) && !Until::Segment(99).is_reached(&rolling()));
        assert!(!Until::Done.is_reached(&rolling()));
        assert!(Until::Promotable.is_reached(&halted()) && !Until::Promotable.is_reached(&rolling()));
    }
}
