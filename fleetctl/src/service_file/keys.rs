//! Which keys there are: those this version understands, and those that are known and belong to a later one.
//! Both lists are complete: anything else is a typing error, and gets a suggestion.

use super::error::Problem;
use super::yaml::{Key, Node, Value, shown};

/// The keys of one mapping of the service file.
pub(super) struct Keys {
    /// The key whose value it is; empty for the file itself.
    pub(super) of: &'static str,
    supported: &'static [&'static str],
    later: &'static [&'static str],
}

pub(super) const FILE: Keys = Keys {
    of: "",
    supported: &[
        "apiVersion",
        "service",
        "description",
        "owners",
        "release",
        "nodes",
        "user",
        "files",
        "run",
        "health",
        "proof",
        "hooks",
        "deploy",
    ],
    later: &["root", "group", "shared", "secrets", "balancer", "drift", "flags", "compatibility", "environments"],
};
pub(super) const RELEASE: Keys =
    Keys { of: "release", supported: &["version"], later: &["include", "exclude", "platforms", "keep"] };
pub(super) const FILES: Keys = Keys {
    of: "files",
    supported: &["source", "destination", "mode"],
    later: &["template", "vars", "owner", "group", "on_conflict"],
};
pub(super) const RUN: Keys =
    Keys { of: "run", supported: &["command", "stop_timeout", "environment"], later: &["systemd", "credentials"] };
pub(super) const HEALTH: Keys =
    Keys { of: "health", supported: &["http", "interval", "successes", "timeout"], later: &["expect_version"] };
pub(super) const HTTP: Keys = Keys { of: "http", supported: &["url", "path", "status"], later: &["contains"] };
pub(super) const PROOF: Keys = Keys { of: "proof", supported: &["minimum_grade", "pin"], later: &[] };
pub(super) const PIN: Keys = Keys { of: "proof.pin", supported: &["path", "digest", "package", "version"], later: &[] };
pub(super) const DEPLOY: Keys = Keys {
    of: "deploy",
    supported: &[
        "segments",
        "order",
        "parallel",
        "min_healthy",
        "bake",
        "max_failures",
        "on_failure",
        "pause_after",
        "test",
        "confirm",
    ],
    later: &["strategy", "guard"],
};
pub(super) const TEST: Keys = Keys { of: "test", supported: &["run", "from", "timeout"], later: &[] };
pub(super) const HOOKS: Keys =
    Keys { of: "hooks", supported: &["migrate"], later: &["stage", "stop", "start", "validate"] };
pub(super) const MIGRATE: Keys =
    Keys { of: "migrate", supported: &["run", "once", "timeout", "place"], later: &["user"] };

/// Every mapping, to find where a misplaced key belongs.
const ALL: [&Keys; 12] =
    [&FILE, &RELEASE, &FILES, &RUN, &HEALTH, &HTTP, &PROOF, &PIN, &DEPLOY, &TEST, &HOOKS, &MIGRATE];

/// A mapping whose keys are all supported.
pub(super) struct Section {
    node: Node,
    entries: Vec<(Key, Node)>,
    of: &'static str,
}

impl Section {
    /// Opens a mapping; every key that is not supported is refused by name.
    pub(super) fn open(node: Node, keys: &Keys) -> Result<Self, Problem> {
        let Value::Map(entries) = &node.value else {
            let what = if keys.of.is_empty() { "the file".to_owned() } else { format!("'{}'", keys.of) };
            let problem =
                Problem::new(node.place, format!("{what} must be a mapping (key: value), found {}", node.what()));
            return Err(problem.help(format!("its keys are {}", keys.supported.join(", "))));
        };
        for (key, _) in entries {
            check(key, keys)?;
        }
        let entries = entries.clone();
        Ok(Self { node, entries, of: keys.of })
    }

    /// Takes the value of a key; a key with nothing behind it is an error.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<Node>, Problem> {
        let Some(at) = self.entries.iter().position(|(key, _)| key.name == name) else {
            return Ok(None);
        };
        let (key, value) = self.entries.swap_remove(at);
        if value.is_null() {
            return Err(Problem::new(key.place, format!("'{name}' has no value")).help("write one, or remove the key"));
        }
        Ok(Some(value))
    }

    /// Takes the value of a key that must be there; `example` shows how it looks.
    pub(super) fn require(&mut self, name: &str, example: &str) -> Result<Node, Problem> {
        let of = if self.of.is_empty() { "the file".to_owned() } else { format!("'{}'", self.of) };
        let missing = Problem::new(self.node.place, format!("{of} has no '{name}'"))
            .help(format!("add one, for example: {example}"));
        self.take(name)?.ok_or(missing)
    }
}

fn check(key: &Key, keys: &Keys) -> Result<(), Problem> {
    let name = key.name.as_str();
    if keys.supported.contains(&name) {
        return Ok(());
    }
    let full =
        |keys: &Keys, name: &str| if keys.of.is_empty() { name.to_owned() } else { format!("{}.{name}", keys.of) };
    if keys.later.contains(&name) {
        let problem = Problem::new(
            key.place,
            format!("key '{}' is known, but not supported by this version yet", full(keys, name)),
        );
        return Err(problem.help(
            "remove it, or use a newer fleetctl; it is refused because ignoring it would deploy something else",
        ));
    }
    let problem = Problem::new(key.place, format!("unknown key '{}'", shown(name)));
    let candidates = keys.supported.iter().chain(keys.later);
    let closest = candidates.map(|known| (strsim::damerau_levenshtein(&normal(name), &normal(known)), *known)).min();
    // Two slips in a word, one in a short one; more is another word.
    if let Some((slips, known)) = closest
        && slips <= if name.chars().count() < 5 { 1 } else { 2 }
    {
        return Err(problem.help(format!("did you mean '{known}'?")));
    }
    if let Some(home) = ALL.iter().find(|other| other.supported.contains(&name) || other.later.contains(&name)) {
        let place = if home.of.is_empty() { "the top of the file".to_owned() } else { format!("'{}'", home.of) };
        return Err(problem.help(format!("'{name}' belongs under {place}").replace("under the top", "at the top")));
    }
    let of = if keys.of.is_empty() { "here".to_owned() } else { format!("of '{}'", keys.of) };
    Err(problem.help(format!("the keys {of} are {}", keys.supported.join(", "))))
}

/// Case, `-` and `_` do not count as slips.
fn normal(name: &str) -> String {
    name.chars().take(60).filter(|c| *c != '-' && *c != '_').flat_map(char::to_lowercase).collect()
}
