//! What is shown while a deployment is watched: a frame drawn in place, lines for a log, or events for a program. When
//! to watch and until when is `watch`'s.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, Instant};

use fleet_proto::v1;

use super::Session;
use super::gates::TestEvent;
use crate::output::documents::{self, Deployment, Event, STREAM_FORMAT};
use crate::output::format::Format;
use crate::output::frame;
use crate::output::lines::Lines;
use crate::output::screen::{Screen, Verbosity};
use crate::output::text::{cut, plain};
use crate::test_run::Verdict;

/// A frame is drawn at least this often, so that the times move.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Lines of a test's output that the live view shows: enough to see it move, and the frame stays small.
const TEST_LINES_SHOWN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Lines,
    Events,
    Silent,
}

/// What is shown while watching.
pub(super) struct Display<'a> {
    screen: &'a Screen,
    mode: Mode,
    format: Format,
    pub(super) deployment: v1::Deployment,
    lines: Lines,
    /// What the test that runs here has said last.
    test: VecDeque<String>,
    /// The controller's clock: its time when something was last heard, and how long ago that is here.
    clock: (i64, Instant),
    drawn: usize,
    drawn_at: Option<Instant>,
    dirty: bool,
    lost: bool,
}

impl<'a> Display<'a> {
    pub(super) fn new(session: &'a Session, format: Format, first: v1::Deployment) -> Self {
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
            test: VecDeque::new(),
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

    pub(super) fn update(&mut self, update: v1::DeploymentUpdate) {
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

    /// Shows what happens to a test that runs here.
    pub(super) fn test(&mut self, event: TestEvent) {
        let line = match event {
            TestEvent::Begun { gate, command } => {
                self.test.clear();
                format!("      gate {} $ {}", plain(&gate), plain(&command))
            }
            TestEvent::Line(line) => format!("      | {}", plain(&line)),
            // How it ended is a fact soon; what it said was shown.
            TestEvent::Ended { gate, ending } => {
                if ending.verdict == Verdict::Passed {
                    self.test.clear();
                }
                format!("      gate {} {}", plain(&gate), ending.verdict.as_str())
            }
            TestEvent::Unwanted { gate, why } => {
                format!("      gate {}: the answer was not taken: {}", plain(&gate), plain(&why))
            }
        };
        match self.mode {
            Mode::Silent => {}
            // Events go to standard output; what a test says is for whoever reads the log.
            Mode::Lines | Mode::Events => self.screen.say(&line),
            Mode::Live => {
                self.test.push_back(line);
                while self.test.len() > TEST_LINES_SHOWN {
                    self.test.pop_front();
                }
                self.dirty = true;
            }
        }
    }

    pub(super) fn lost(&mut self) {
        if !self.lost && matches!(self.mode, Mode::Lines) {
            self.screen.say("the controller went away; trying again");
        }
        self.lost = true;
        self.dirty = true;
    }

    pub(super) fn tick(&mut self) {
        let stale = self.drawn_at.is_none_or(|at| at.elapsed() >= CLOCK_INTERVAL);
        if self.mode == Mode::Live && (self.dirty || stale) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let (width, height) = self.screen.size();
        // One column is kept free: a full line would wrap on some terminals.
        let width = width.saturating_sub(1);
        let mut lines = frame::frame(&self.deployment, self.now_ms(), self.screen.glyphs, width);
        lines.extend(self.test.iter().map(|line| cut(&self.screen.glyphs.fit(line), width)));
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
    pub(super) fn clear(&mut self) {
        if self.mode == Mode::Live {
            self.draw();
        }
    }

    pub(super) fn finish(&mut self) {
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
