//! What happens in a story: the lines `node …` and `at TIME: …`, from words to values.

use fleet::deployment::{AbortMode, Again, Command, Waiver};
use fleet::{Millis, NodeName, Timestamp};

use super::story::{Change, Deed, Forward, GateAnswer, MigrationConduct, MigrationEnd, Says};
use super::words::{Problem, Words, unknown};

/// How long a gate's source takes to answer where the script does not say.
pub(super) const GATE_ANSWERS_AFTER: Millis = Millis::from_secs(1);
/// How long a migration takes where the script does not say.
pub(super) const MIGRATION_TAKES: Millis = Millis::from_secs(3);

pub(super) const NODE_USAGE: &str = "node n3 refuses after 3s, node n3,n4 silent, node n3 late 30s";
const CONDUCTS: [&str; 16] = [
    "good",
    "refuses",
    "lies",
    "silent",
    "late",
    "falls-back",
    "stuck",
    "unconfirmed",
    "absent",
    "slow",
    "crashes",
    "replays",
    "answers",
    "unhealthy",
    "holds",
    "blocked",
];
const DEEDS: [&str; 15] = [
    "pause",
    "resume",
    "promote",
    "abort",
    "supersede",
    "waive",
    "kill",
    "decommission",
    "join",
    "lose",
    "crash",
    "break",
    "gate",
    "migration",
    "node",
];

/// How a node behaves, if the word says so; None for a word that only describes a beginning.
pub(super) fn change(word: &str, words: &mut Words) -> Result<Option<Change>, Problem> {
    Ok(Some(match word {
        "good" => Change::Forward(Forward::Good),
        "refuses" => {
            let after = words.span_after("after")?.unwrap_or(Millis::from_secs(1));
            Change::Forward(Forward::Refuses { after, reason: words.any().unwrap_or_else(|| "probe: 503".into()) })
        }
        "lies" => Change::Forward(Forward::Lies),
        "falls-back" => {
            words.expect("after")?;
            Change::Forward(Forward::FallsBack { after: words.value("the time")? })
        }
        "crashes" => {
            words.expect("every")?;
            let every = words.value("the time")?;
            if every < Millis::from_secs(1) {
                return Err(Problem::new(
                    "a service that dies more than once a second was never up",
                    "crashes every 2s",
                ));
            }
            Change::Forward(Forward::Crashes { every })
        }
        "stuck" => Change::Stuck,
        "slow" => Change::Slow(words.value("the time")?),
        "answers" => {
            words.expect("after")?;
            Change::AnswersAfter(words.value("the time")?)
        }
        "replays" => Change::Replays,
        "unconfirmed" => Change::Unconfirmed,
        "silent" => Change::SilentUntil(Timestamp(i64::MAX)),
        "late" => Change::SilentUntil(Timestamp(0).after(words.value("the time")?)),
        "absent" | "unhealthy" | "holds" | "blocked" => return Ok(None),
        other => return Err(unknown(other, "a way for a node to behave", &CONDUCTS)),
    }))
}

/// What happens at `at`; the words begin behind the time.
pub(super) fn deed(at: Timestamp, words: &mut Words) -> Result<Vec<Deed>, Problem> {
    let verb = words.meaning("at 12s: pause by alice").word("what happens")?;
    let tell = |by: String, command: Command| Ok(vec![Deed::Tell { by, command }]);
    match verb.as_str() {
        "pause" => tell(words.meaning("at 12s: pause by alice").by()?, Command::Pause),
        "resume" => tell(words.meaning("at 12s: resume by alice").by()?, Command::Resume),
        "promote" => {
            let words = words.meaning("at 12s: promote --retry by alice");
            let again = if words.take("--retry") { Again::Retry } else { Again::Skip };
            tell(words.by()?, Command::Promote { again })
        }
        "abort" => {
            let words = words.meaning("at 12s: abort --leave by alice");
            let roll_back = words.take("--rollback");
            let mode = if !roll_back && words.take("--leave") { AbortMode::Leave } else { AbortMode::RollBack };
            tell(words.by()?, Command::Abort { mode })
        }
        "supersede" => {
            let words = words.meaning("at 12s: supersede with d-other by alice");
            words.expect("with")?;
            let deployment = words.value("the other deployment")?;
            tell(words.by()?, Command::Supersede { deployment })
        }
        "waive" => {
            let words = words.meaning("at 12s: waive n3 \"disk\" for 24h by alice");
            let (node, reason) = (words.value("the node")?, words.word("the reason")?);
            words.expect("for")?;
            let until = at.after(words.value("the time")?);
            let by = words.by()?;
            tell(by.clone(), Command::Waive { node, waiver: Waiver { by, reason, until } })
        }
        "kill" => {
            let words = words.meaning("at 12s: kill controller for 5s");
            words.expect("controller")?;
            words.take("for");
            Ok(vec![Deed::KillController { for_: words.value("the time")? }])
        }
        "decommission" => {
            let words = words.meaning("at 12s: decommission n4 \"disk dead\" by alice");
            let node = words.value("the node")?;
            let reason = match words.peek() {
                None | Some("by") => "no reason given".to_owned(),
                Some(_) => words.word("the reason")?,
            };
            Ok(vec![Deed::Decommission { node, reason, by: words.by()? }])
        }
        "join" => {
            let words = words.meaning("at 12s: join n9, or join n9 holding 1.0.0");
            let node = words.value("the node")?;
            let holds = if words.take("holding") { Some(words.value("the version")?) } else { None };
            Ok(vec![Deed::Join { node, holds }])
        }
        "lose" => each(words.meaning("at 12s: lose n2 for 10s"), |node, for_| Ok(Deed::Lose { node, for_ })),
        "crash" => each(words.meaning("at 12s: crash n2 for 10s"), |node, for_| {
            let for_ = for_.ok_or_else(|| Problem::new("'for' is missing", "at 12s: crash n2 for 10s"))?;
            Ok(Deed::Crash { node, for_ })
        }),
        "break" => each(words.meaning("at 12s: break n2 for 10s"), |node, for_| Ok(Deed::Break { node, for_ })),
        "gate" => gate(words).map(|(name, answer)| vec![Deed::Gate { name, answer }]),
        "migration" => migration(words).map(|conduct| vec![Deed::Migration(conduct)]),
        "node" => {
            let words = words.meaning(NODE_USAGE);
            let nodes = words.list("the node")?;
            let word = words.word("how it behaves")?;
            let Some(change) = change(&word, words)? else {
                let what = format!("'{word}' says how a node is at the beginning, not later");
                return Err(Problem::new(what, "write it without 'at', or use lose, break or join"));
            };
            Ok(nodes.into_iter().map(|node| Deed::Change { node, change: change.clone() }).collect())
        }
        other => Err(unknown(other, "something that happens", &DEEDS)),
    }
}

fn each(
    words: &mut Words,
    deed: impl Fn(NodeName, Option<Millis>) -> Result<Deed, Problem>,
) -> Result<Vec<Deed>, Problem> {
    let nodes = words.list("the node")?;
    let span = words.span_after("for")?;
    nodes.into_iter().map(|node| deed(node, span)).collect()
}

/// `gate NAME passes|fails|inconclusive|silent ["what was seen"] [after 5s]`.
pub(super) fn gate(words: &mut Words) -> Result<(String, GateAnswer), Problem> {
    let words = words.meaning("gate test fails \"2 of 3 tests failed\" after 5s");
    let name = words.word("the gate's name")?;
    let word = words.word("its answer")?;
    let detail = match words.peek() {
        None | Some("after") => None,
        Some(_) => words.any(),
    };
    let says = match word.as_str() {
        "passes" => Says::Passes(detail.unwrap_or_else(|| "exit 0".into())),
        "fails" => Says::Fails(detail.unwrap_or_else(|| "exit 1".into())),
        "inconclusive" => Says::Inconclusive(detail.unwrap_or_else(|| "no data".into())),
        "silent" => Says::Nothing,
        other => return Err(unknown(other, "an answer to a gate", &["passes", "fails", "inconclusive", "silent"])),
    };
    Ok((name, GateAnswer { says, after: words.span_after("after")?.unwrap_or(GATE_ANSWERS_AFTER) }))
}

/// `migration succeeds|fails "why"|silent [takes 10s]`.
pub(super) fn migration(words: &mut Words) -> Result<MigrationConduct, Problem> {
    let words = words.meaning("migration fails \"exit 1\" takes 10s");
    let mut ends = MigrationEnd::Well;
    if words.peek() != Some("takes") {
        let word = words.word("how it ends")?;
        ends = match word.as_str() {
            "succeeds" => MigrationEnd::Well,
            "fails" => match words.peek() {
                None | Some("takes") => MigrationEnd::Badly("exit 1".into()),
                Some(_) => MigrationEnd::Badly(words.word("why")?),
            },
            "silent" => MigrationEnd::Unheard,
            other => return Err(unknown(other, "an end of a migration", &["succeeds", "fails", "silent", "takes"])),
        };
    }
    Ok(MigrationConduct { takes: words.span_after("takes")?.unwrap_or(MIGRATION_TAKES), ends })
}

/// Every node that an act names.
pub(super) fn names(deed: &Deed) -> Option<&NodeName> {
    match deed {
        Deed::Tell { command: Command::Waive { node, .. }, .. }
        | Deed::Decommission { node, .. }
        | Deed::Lose { node, .. }
        | Deed::Crash { node, .. }
        | Deed::Break { node, .. }
        | Deed::Change { node, .. } => Some(node),
        Deed::Tell { .. }
        | Deed::KillController { .. }
        | Deed::Join { .. }
        | Deed::Gate { .. }
        | Deed::Migration(_) => None,
    }
}
