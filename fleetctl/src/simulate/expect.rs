//! What a script expects of its story, read from words. Weighing it is in `weigh.rs`.

use fleet::{NodeName, Outcome, Timestamp};

use super::story::Expected;
use super::words::{Problem, Words, unknown};

const USAGE: &str =
    "expect outcome converged, expect n3 holds 1.0.0, expect never \"converged\", expect waiting \"text\" at 14s";
const KINDS: [&str; 9] = ["outcome", "exit", "fact", "never", "order", "said", "waiting", "serving", "migration"];
const OUTCOMES: [Outcome; 6] = [
    Outcome::Converged,
    Outcome::ConvergedWithWaivers,
    Outcome::RolledBack,
    Outcome::Unproven,
    Outcome::Aborted,
    Outcome::Superseded,
];
const STATES: [&str; 10] = [
    "pending",
    "ordered",
    "proven",
    "failed",
    "restoring",
    "restored",
    "not-restored",
    "verified",
    "unverified",
    "decommissioned",
];

/// Reads what stands behind `expect`, and when it shall hold.
pub(super) fn read(words: &mut Words) -> Result<(Expected, Option<Timestamp>), Problem> {
    let words = words.meaning(USAGE);
    let kind = words.word("what is expected")?;
    let what = match kind.as_str() {
        "outcome" => outcome(&words.word("the outcome")?)?,
        "exit" => Expected::Exit(words.value("the exit code")?),
        "fact" => Expected::Fact(words.word("the text")?),
        "never" => Expected::Never(words.word("the text")?),
        "order" => {
            let words = words.meaning("expect order \"first\" then \"second\"");
            let first = words.word("the first text")?;
            words.expect("then")?;
            Expected::Before { first, then: words.word("the second text")? }
        }
        "said" => Expected::Said(words.word("the text")?),
        "waiting" => Expected::Waiting(words.word("the text")?),
        "serving" => {
            let words = words.meaning("expect serving at least 6");
            words.expect("at")?;
            words.expect("least")?;
            Expected::Serving(words.value("the number of nodes")?)
        }
        "migration" => {
            let words = words.meaning("expect migration runs 1");
            words.expect("runs")?;
            Expected::Migrations(words.value("how often")?)
        }
        names => of_nodes(names, words)?,
    };
    let timed = match &what {
        Expected::Outcome(_)
        | Expected::Running
        | Expected::Holds { .. }
        | Expected::State { .. }
        | Expected::Said(_)
        | Expected::Fact(_)
        | Expected::Waiting(_) => true,
        Expected::Refused
        | Expected::Exit(_)
        | Expected::Never(_)
        | Expected::Before { .. }
        | Expected::Serving(_)
        | Expected::Migrations(_) => false,
    };
    if words.peek() == Some("at") && !timed {
        return Err(Problem::new("this is expected of the whole story, not of a moment", "leave 'at' away"));
    }
    let at = words.span_after("at")?.map(|span| Timestamp(0).after(span));
    Ok((what, at))
}

fn outcome(word: &str) -> Result<Expected, Problem> {
    match word {
        "refused" => Ok(Expected::Refused),
        "running" => Ok(Expected::Running),
        word => OUTCOMES.into_iter().find(|outcome| outcome.as_str() == word).map(Expected::Outcome).ok_or_else(|| {
            let known: Vec<&str> =
                OUTCOMES.iter().map(|outcome| outcome.as_str()).chain(["refused", "running"]).collect();
            unknown(word, "an outcome", &known)
        }),
    }
}

fn of_nodes(names: &str, words: &mut Words) -> Result<Expected, Problem> {
    match words.any().as_deref() {
        Some(verb @ ("holds" | "hold" | "is" | "are")) => {
            let parse = |name: &str| name.parse::<NodeName>();
            let nodes = names.split(',').map(parse).collect::<Result<Vec<_>, _>>();
            let nodes = nodes.map_err(|error| Problem::new(error.to_string(), USAGE))?;
            if verb.starts_with("hold") {
                let version = if words.take("nothing") { None } else { Some(words.value("the version")?) };
                return Ok(Expected::Holds { nodes, version });
            }
            let state = words.word("the state")?;
            match STATES.contains(&state.as_str()) {
                true => Ok(Expected::State { nodes, state }),
                false => Err(unknown(&state, "a state of a node", &STATES)),
            }
        }
        Some(_) | None => {
            let mut problem = unknown(names, "something that can be expected", &KINDS);
            if !problem.help.starts_with("did") {
                problem.help = format!("{USAGE}; also: {}", KINDS.join(", "));
            }
            Err(problem)
        }
    }
}

/// The nodes that an expectation names.
pub(super) fn names(what: &Expected) -> &[NodeName] {
    match what {
        Expected::Holds { nodes, .. } | Expected::State { nodes, .. } => nodes,
        Expected::Outcome(_)
        | Expected::Refused
        | Expected::Running
        | Expected::Exit(_)
        | Expected::Fact(_)
        | Expected::Never(_)
        | Expected::Before { .. }
        | Expected::Said(_)
        | Expected::Waiting(_)
        | Expected::Serving(_)
        | Expected::Migrations(_) => &[],
    }
}
