//! Where our own time goes, from what a deployment tells anyway: the facts of `fleetctl deploy -o jsonl` and the step
//! lines of the agents' logs. A line that is not understood is left out; nothing else rests on these figures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::statistics::Spread;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// One line of the stream of facts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fact {
    at: String,
    fact: String,
    node: Option<String>,
}

/// The facts among the lines of `-o jsonl`.
pub fn facts(text: &str) -> Vec<Fact> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A piece of time with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What happened in it.
    pub name: String,
    /// How long it was.
    pub took: Duration,
}

/// A name, and how long its pieces were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// What happened.
    pub name: String,
    /// Milliseconds.
    pub ms: Spread,
}

/// The pieces of a whole command, which began at this time of the (UTC) day and took `wall`.
pub fn of_command(facts: &[Fact], began: Duration, wall: Duration) -> Vec<Piece> {
    let at = |name: &str, which: fn(&[Duration]) -> Option<&Duration>| {
        let times: Vec<Duration> =
            facts.iter().filter(|fact| fact.fact == name).filter_map(|fact| time_of_day(&fact.at)).collect();
        which(&times).copied()
    };
    let marks = [
        ("command: start, pack, upload, plan", Some(began)),
        ("the segments, one after the other", at("planned", <[_]>::first)),
        ("fresh proof of every node at the end", at("verification-started", <[_]>::last)),
        ("outcome to exit of the command", at("finished", <[_]>::last)),
        ("", Some(later(began, wall))),
    ];
    between(marks.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?))))
}

/// The pieces of every node: from the start of its segment, through the steps in its agent's log, to its proof.
pub fn of_node(facts: &[Fact], node: &str, log: &str) -> Vec<Piece> {
    let mut segment = None;
    let mut proven = None;
    for fact in facts {
        match fact.fact.as_str() {
            "segment-started" if proven.is_none() => segment = time_of_day(&fact.at),
            "node-proven" if fact.node.as_deref() == Some(node) => proven = time_of_day(&fact.at),
            _ => {}
        }
    }
    let (Some(segment), Some(proven)) = (segment, proven) else { return Vec::new() };
    let steps = log.lines().filter_map(mark);
    let marks = std::iter::once(("order on its way".to_owned(), segment)).chain(steps);
    between(marks.chain(std::iter::once((String::new(), proven))))
}

/// The name and time of a line of an agent's log that begins something.
fn mark(line: &str) -> Option<(String, Duration)> {
    let at = time_of_day(line.split_whitespace().next()?)?;
    if line.contains(" new order ") {
        return Some(("order taken and saved".to_owned(), at));
    }
    let step = line.split_once(" step=")?.1.split_whitespace().next()?;
    let name = if step == "allow" { "allow, attest, judge" } else { step };
    Some((name.to_owned(), at))
}

/// From each mark to the next. The controller tells times in whole milliseconds, so that a mark can seem to lie just
/// before the one it follows; such a piece took no time.
fn between(marks: impl IntoIterator<Item = (String, Duration)>) -> Vec<Piece> {
    let marks: Vec<_> = marks.into_iter().collect();
    let pairs = marks.iter().zip(marks.iter().skip(1));
    pairs.map(|((name, from), (_, to))| Piece { name: name.clone(), took: since(*from, *to) }).collect()
}

/// The same names together, in the order in which they first appear.
pub fn together(pieces: &[Piece]) -> Vec<Phase> {
    let mut names: Vec<&str> = Vec::new();
    for piece in pieces {
        if !names.contains(&piece.name.as_str()) {
            names.push(&piece.name);
        }
    }
    let spread = |name: &str| {
        Spread::of(pieces.iter().filter(|piece| piece.name == name).map(|piece| piece.took.as_secs_f64() * 1_000.0))
    };
    names.into_iter().filter_map(|name| Some(Phase { name: name.to_owned(), ms: spread(name)? })).collect()
}

/// The time of the day of an RFC 3339 time in UTC: a run is shorter than a day, so nothing more is needed.
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split_once('T')?.1.strip_suffix('Z')?.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let seconds = Duration::try_from_secs_f64(seconds).ok()?;
    (parts.next().is_none() && hours < 24 && minutes < 60)
        .then(|| Duration::from_secs(hours * 3_600 + minutes * 60) + seconds)
}

/// The time of the (UTC) day now.
pub fn now() -> Duration {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Duration::new(since_1970.as_secs() % DAY.as_secs(), since_1970.subsec_nanos())
}

fn later(from: Duration, by: Duration) -> Duration {
    let sum = from + by;
    if sum >= DAY { sum - DAY } else { sum }
}

/// From one time of the day to the next, perhaps over midnight; a little backwards is none at all.
fn since(from: Duration, to: Duration) -> Duration {
    match to.checked_sub(from) {
        Some(took) => took,
        None if from - to > DAY / 2 => to + DAY - from,
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FACTS: &str = r#"{"type":"version","format":"1.0","fleetctl":"0.1.0"}
{"type":"fact","deployment":"d-1","index":0,"at":"2026-11-21T23:59:59.5Z","fact":"planned","segment":null,"node":null,"text":"x"}
{"type":"fact","deployment":"d-1","index":1,"at":"2026-11-21T23:59:59.5Z","fact":"segment-started","segment":0,"node":null,"text":"started"}
{"type":"fact","deployment":"d-1","index":2,"at":"2026-11-22T00:00:00.2Z","fact":"node-proven","segment":null,"node":"n1","text":"proven (digest)"}
{"type":"fact","deployment":"d-1","index":3,"at":"2026-11-22T00:00:00.2Z","fact":"segment-started","segment":1,"node":null,"text":"started"}
{"type":"fact","deployment":"d-1","index":4,"at":"2026-11-22T00:00:01Z","fact":"node-proven","segment":null,"node":"n2","text":"proven (digest)"}
{"type":"fact","deployment":"d-1","index":5,"at":"2026-11-22T00:00:01Z","fact":"verification-started","segment":null,"node":null,"text":"x"}
{"type":"fact","deployment":"d-1","index":6,"at":"2026-11-22T00:00:01.25Z","fact":"finished","segment":null,"node":null,"text":"CONVERGED"}
{"type":"outcome","deployment":{"id":"d-1"}}
"#;

    fn list(pieces: &[Piece]) -> Vec<(&str, u128)> {
        pieces.iter().map(|piece| (piece.name.as_str(), piece.took.as_millis())).collect()
    }

    #[test]
    fn a_command_is_split_at_its_facts_also_over_midnight() {
        let began = Duration::from_millis((24 * 3_600 - 1) * 1_000);
        let pieces = of_command(&facts(FACTS), began, Duration::from_millis(2_300));
        assert_eq!(
            list(&pieces),
            [
                ("command: start, pack, upload, plan", 500),
                ("the segments, one after the other", 1_500),
                ("fresh proof of every node at the end", 250),
                ("outcome to exit of the command", 50),
            ]
        );
    }

    #[test]
    fn a_node_is_split_at_its_steps_within_its_own_segment() {
        let log = "2026-11-22T00:00:00.250000Z  INFO fleet_agent::node: new order service=bench generation=3 hold=r-1
2026-11-22T00:00:00.260000Z  INFO fleet_agent::keeper: carrying out an order service=bench
2026-11-22T00:00:00.300000Z  INFO fleet_agent::execute: step service=bench generation=3 step=fetch 09b8 way=Forward
2026-11-22T00:00:00.600000Z  INFO fleet_agent::execute: step service=bench generation=3 step=allow way=Forward
";
        assert_eq!(
            list(&of_node(&facts(FACTS), "n2", log)),
            [("order on its way", 50), ("order taken and saved", 50), ("fetch", 300), ("allow, attest, judge", 400),]
        );
        assert_eq!(of_node(&facts(FACTS), "n9", log), []);
    }

    #[test]
    fn pieces_of_one_name_come_together_in_order() {
        let piece = |name: &str, ms| Piece { name: name.into(), took: Duration::from_millis(ms) };
        let phases = together(&[piece("b", 4), piece("a", 1), piece("b", 2)]);
        assert_eq!(phases.len(), 2);
        assert_eq!(phases[0], Phase { name: "b".into(), ms: Spread { median: 3.0, min: 2.0, max: 4.0 } });
        assert_eq!(phases[1].name, "a");
    }

    #[test]
    fn only_times_are_times() {
        assert_eq!(time_of_day("2026-11-21T09:09:07.5Z"), Some(Duration::from_millis(32_947_500)));
        for text in ["", "09:09", "2026-11-21T25:00:00Z", "2026-11-21T09:09:-1Z", "2026-11-21T09:09:07+01:00"] {
            assert_eq!(time_of_day(text), None, "{text}");
        }
    }
}
