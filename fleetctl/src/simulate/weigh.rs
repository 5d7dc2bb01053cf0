//! Whether what was expected of a story holds, or what is there instead.

use fleet::deployment::NodeState;
use fleet::{NodeName, Timestamp};

use super::play::Play;
use super::story::Expected;
use super::transcript::Voice;

/// Whether it holds: Ok, or what is there instead.
pub(super) fn weigh(what: &Expected, at: Option<Timestamp>, played: &Play<'_>) -> Result<(), String> {
    let instead = |holds: bool, found: String| if holds { Ok(()) } else { Err(found) };
    let ended = || match (played.outcome(), played.refusal()) {
        (Some(outcome), _) => outcome.to_string(),
        (None, Some(why)) => format!("refused: {why}"),
        (None, None) => "running".to_owned(),
    };
    match what {
        Expected::Outcome(outcome) => instead(played.outcome() == Some(*outcome), format!("it is {}", ended())),
        Expected::Refused => instead(played.refusal().is_some(), format!("it is {}", ended())),
        Expected::Running => {
            instead(played.outcome().is_none() && played.refusal().is_none(), format!("it is {}", ended()))
        }
        Expected::Exit(code) => {
            let found = played.exit().map_or("it has not ended".to_owned(), |exit| format!("it is {exit}"));
            instead(played.exit() == Some(*code), found)
        }
        Expected::Holds { nodes, version } => every(nodes, |node| {
            let (words, runs) = played.runs(node);
            instead(runs.as_ref() == Some(version), format!("{node} {words}"))
        }),
        Expected::State { nodes, state } => every(nodes, |node| {
            let found = played.state(node).map_or("unknown to the deployment", word_of);
            instead(found == state, format!("{node} is {found}"))
        }),
        Expected::Fact(text) => {
            instead(played.transcript.of(Some(Voice::Fact)).any(|fact| says(fact, text)), "no fact says so".into())
        }
        Expected::Never(text) => match played.transcript.of(Some(Voice::Fact)).find(|fact| says(fact, text)) {
            Some(fact) => Err(format!("a fact says: {fact}")),
            None => Ok(()),
        },
        Expected::Before { first, then } => {
            let place = |text: &str| played.transcript.of(Some(Voice::Fact)).position(|fact| says(fact, text));
            match (place(first), place(then)) {
                (Some(a), Some(b)) => instead(a < b, format!("'{then}' comes first")),
                (None, _) => Err(format!("no fact says '{first}'")),
                (_, None) => Err(format!("no fact says '{then}'")),
            }
        }
        Expected::Said(text) => {
            instead(played.transcript.of(None).any(|line| says(line, text)), "no line says so".into())
        }
        Expected::Waiting(text) => match at {
            Some(_) => {
                let waits = played.waits_now();
                let found =
                    waits.as_ref().map_or("it waits for nothing".to_owned(), |on| format!("it waits for: {on}"));
                instead(waits.is_some_and(|on| says(&on, text)), found)
            }
            None => instead(played.transcript.of(Some(Voice::Waits)).any(|on| says(on, text)), "it never did".into()),
        },
        Expected::Serving(least) => {
            let fewest = played.fewest_serving;
            instead(fewest >= *least, format!("once only {fewest} served"))
        }
        Expected::Migrations(times) => {
            instead(played.migrations == *times, format!("it was begun {} times", played.migrations))
        }
    }
}

fn every(nodes: &[NodeName], weigh: impl Fn(&NodeName) -> Result<(), String>) -> Result<(), String> {
    nodes.iter().try_for_each(weigh)
}

/// Whether a line says something, whatever the case of its letters.
fn says(line: &str, text: &str) -> bool {
    line.to_lowercase().contains(&text.to_lowercase())
}

fn word_of(state: &NodeState) -> &'static str {
    match state {
        NodeState::Pending => "pending",
        NodeState::Ordered { .. } => "ordered",
        NodeState::Proven { .. } => "proven",
        NodeState::Failed { .. } => "failed",
        NodeState::Restoring { .. } => "restoring",
        NodeState::Restored { .. } => "restored",
        NodeState::NotRestored { .. } => "not-restored",
        NodeState::Verified { .. } => "verified",
        NodeState::Unverified { .. } => "unverified",
        NodeState::Decommissioned { .. } => "decommissioned",
    }
}
