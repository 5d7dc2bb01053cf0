//! Watching a deployment to its end: drawn in place for a person, one line per fact for a log, one object per event for
//! a program. A controller that dies is waited for; Ctrl-C leaves at once, and the deployment goes on.

use std::io::Write as _;
use std::time::{Duration, Instant};

use fleet::Outcome;
use fleet::outcome::exit;
use fleet_proto::v1;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Session;
use crate::client::{Controller, Operator, Patience, is_transport, status_failure};
use crate::failure::Failure;
use crate::output::documents::{self, Deployment, Event, STREAM_FORMAT};
use crate::output::format::Format;
use crate::output::frame;
use crate::output::lines::Lines;
use crate::output::screen::{Screen, Verbosity};

/// Frames are drawn at most this often.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// And at least this often, so that the times move.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

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
    /// The segment with this number, from 1, has baked.
    Segment(u32),
}

impl Until {
    /// Whether this is reached.
    pub fn is_reached(self, deployment: &v1::Deployment) -> bool {
        match self {
            Self::Done => !deployment.outcome.is_empty(),
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
    mut client: Operator,
    first: v1::Deployment,
    until: Until,
    format: Format,
) -> Result<u8, Failure> {
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| Failure::failed("cannot wait for Ctrl-C").caused_by(&e))?;
    let mut display = Display::new(session, format, first);
    let deadline = session.timeout().map(|t| Instant::now() + t);
    let end = follow(controller, &mut client, &mut display, until, deadline, &mut interrupt).await;
    display.clear();
    let id = display.deployment.id.clone();
    match end? {
        End::Finished => {
            display.finish();
            Ok(exit_of(&display.deployment))
        }
        End::Reached => {
            session.screen.say(&format!("{id} has reached what was waited for; it goes on"));
            Ok(exit::OK)
        }
        End::Detached => {
            session.screen.insist(&format!("detached; {id} goes on. Come back with: fleetctl wait {id}"));
            Ok(exit::DETACHED)
        }
        End::TimedOut => {
            session.screen.insist(&format!("timed out; {id} goes on. Come back with: fleetctl wait {id}"));
            Ok(exit::TIMED_OUT)
        }
    }
}

/// The exit code of a finished deployment. An outcome this program does not know is never success.
pub fn exit_of(deployment: &v1::Deployment) -> u8 {
    let known =
        [Outcome::Converged, Outcome::ConvergedWithWaivers, Outcome::RolledBack, Outcome::Unproven, Outcome::Aborted];
    match known.into_iter().find(|o| o.as_str() == deployment.outcome) {
        Some(outcome) => outcome.exit_code(),
        None => u8::try_from(deployment.exit_code).ok().filter(|&code| code != exit::OK).unwrap_or(exit::FAILED),
    }
}

async fn follow(
    controller: &Controller,
    client: &mut Operator,
    display: &mut Display<'_>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Lines,
    Events,
    Silent,
}

/// What is shown while watching.
struct Display<'a> {
    screen: &'a Screen,
    mode: Mode,
    format: Format,
    deployment: v1::Deployment,
    lines: Lines,
    /// The controller's clock: its time when something was last heard, and how long ago that is here.
    clock: (i64, Instant),
    drawn: usize,
    drawn_at: Option<Instant>,
    dirty: bool,
    lost: bool,
}

impl<'a> Display<'a> {
    fn new(session: &'a Session, format: Format, first: v1::Deployment) -> Self {
        let screen = &session.screen;
        let mode = match format {
            Format::Jsonl => Mode::Events,
            _ if screen.verbosity == Verbosity::Quiet => Mode::Silent,
            _ if screen.is_live() && screen.verbosity == Verbosity::Normal => Mode::Live,
            _ => Mode::Lines,
        };
        if mode == Mode::Events {
            screen
                .out(&documents::line(&Event::Version { format: STREAM_FORMAT, fleetctl: env!("CARGO_PKG_VERSION") }));
        }
        // A deployment that was just started began a moment ago; of an older one only the local clock knows how long.
        let started_now = first.facts <= 2;
        let now = if started_now { first.started_at_ms } else { session.local_ms().max(first.started_at_ms) };
        Self {
            screen,
            mode,
            format,
            deployment: first,
            lines: Lines::new(screen.verbosity),
            clock: (now, Instant::now()),
            drawn: 0,
            drawn_at: None,
            dirty: true,
            lost: false,
        }
    }

    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.clock.1.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.clock.0.saturating_add(since)
    }

    fn update(&mut self, update: v1::DeploymentUpdate) {
        if let Some(deployment) = update.deployment {
            self.deployment = deployment;
        }
        if self.lost {
            self.lost = false;
            if self.mode == Mode::Lines {
                self.screen.say("the controller is back");
            }
        }
        let newest = update.facts.iter().map(|f| f.at_ms).fold(self.now_ms(), i64::max);
        self.clock = (newest, Instant::now());
        self.dirty = true;
        match self.mode {
            Mode::Live | Mode::Silent => {}
            Mode::Lines => {
                for line in self.lines.of(&self.deployment, &update.facts) {
                    self.screen.say(&line);
                }
            }
            Mode::Events => {
                for fact in update.facts {
                    let event = Event::Fact { deployment: self.deployment.id.clone(), fact: fact.into() };
                    self.screen.out(&documents::line(&event));
                }
            }
        }
    }

    fn lost(&mut self) {
        if !self.lost && matches!(self.mode, Mode::Lines) {
            self.screen.say("the controller went away; trying again");
        }
        self.lost = true;
        self.dirty = true;
    }

    fn tick(&mut self) {
        let stale = self.drawn_at.is_none_or(|at| at.elapsed() >= CLOCK_INTERVAL);
        if self.mode == Mode::Live && (self.dirty || stale) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let (width, height) = self.screen.size();
        // One column is kept free: a full line would wrap on some terminals.
        let mut lines = frame::frame(&self.deployment, self.now_ms(), self.screen.glyphs, width.saturating_sub(1));
        if self.lost {
            lines.push("  the controller went away; trying again".to_owned());
        }
        // What does not fit cannot be drawn over; the end of the frame is where things happen last.
        let most = height.saturating_sub(1).max(1);
        if lines.len() > most {
            lines.drain(..lines.len() - most);
        }
        let mut text = self.rewind();
        for line in &lines {
            text += line;
            text.push('\n');
        }
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        self.drawn = lines.len();
        self.drawn_at = Some(Instant::now());
        self.dirty = false;
    }

    fn rewind(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\u{1b}[{}A\u{1b}[J", self.drawn) }
    }

    /// Leaves the last frame standing, complete.
    fn clear(&mut self) {
        if self.mode == Mode::Live {
            self.draw();
        }
    }

    fn finish(&mut self) {
        let deployment = &self.deployment;
        match (self.format, self.mode) {
            (Format::Jsonl, _) => self
                .screen
                .out(&documents::line(&Event::Outcome { deployment: Box::new(Deployment::from(deployment.clone())) })),
            (Format::Json, _) => {
                self.screen.out(&documents::document("Deployment", Deployment::from(deployment.clone())))
            }
            (_, Mode::Live) => self.screen.out(&frame::ending(deployment, self.screen)),
            (_, Mode::Lines | Mode::Silent | Mode::Events) => {
                for line in self.lines.ending(deployment) {
                    self.screen.out(&format!("{line}\n"));
                }
                if self.mode == Mode::Lines && deployment.outcome.starts_with("converged") {
                    self.screen.say(frame::proofs(deployment).trim_end());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{finished, rolling};

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
    }
}
