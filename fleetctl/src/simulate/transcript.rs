//! The transcript: one line per thing, with its simulated time and who says it.

use std::fmt;

use fleet::Timestamp;

use crate::output::text::plain;

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// The plan.
    Plan,
    /// A fact of the deployment's journal.
    Fact,
    /// What is said to nodes.
    Order,
    /// What the deployment waits for while time passes.
    Waits,
    /// What really happens on machines, whether or not anyone sees it.
    World,
    /// What people do.
    People,
    /// How it ended.
    End,
    /// What was expected.
    Expect,
}

impl Voice {
    fn word(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Fact => "fact",
            Self::Order => "order",
            Self::Waits => "waits",
            Self::World => "world",
            Self::People => "people",
            Self::End => "end",
            Self::Expect => "expect",
        }
    }
}

/// A line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) voice: Voice,
    pub(super) text: String,
}

/// All that was said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Transcript {
    lines: Vec<Line>,
}

impl Transcript {
    /// Adds a line; what could move a cursor is taken out of it.
    pub(super) fn say(&mut self, at: Timestamp, voice: Voice, text: &str) {
        self.lines.push(Line { at, voice, text: plain(text) });
    }

    /// The lines of one voice, or all.
    pub(super) fn of(&self, voice: Option<Voice>) -> impl Iterator<Item = &str> {
        let meant = move |line: &&Line| voice.is_none_or(|voice| line.voice == voice);
        self.lines.iter().filter(meant).map(|line| line.text.as_str())
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { at, voice, text } in &self.lines {
            writeln!(f, "{:>8}  {:<7} {text}", clock(*at), voice.word())?;
        }
        Ok(())
    }
}

/// A simulated time exactly, as it would be written in a script: `1m42s`.
pub(super) fn clock(at: Timestamp) -> String {
    let ms = at.0.max(0);
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1_000 % 60, "s"), (ms % 1_000, "ms")];
    let text: String =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}
