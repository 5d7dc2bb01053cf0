//! What a story does with a deployment while it runs, and what it asks of it: begun and left, waited for by its reason,
//! watched to its end; and what the nodes truly run then, whatever anybody says.

use std::path::Path;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::stream::Stream;
use crate::wait::until;
use crate::witness::get;

impl Fleet {
    /// Starts to deploy a folder and leaves; its id.
    #[track_caller]
    pub fn begin(&self, release: &Path, flags: &[&str]) -> String {
        let flags: Vec<_> = flags.iter().copied().chain(["--detach", "-o", "name"]).collect();
        let said = self.deploy(release, &flags).expect(0).stdout;
        said.split_whitespace().find(|word| word.starts_with("d-")).unwrap().to_owned()
    }

    /// One deployment as `status -o json` says it; None while the controller does not answer.
    pub fn deployment(&self, id: &str) -> Option<Value> {
        let status = self.ctl(["status", id, "-o", "json"]);
        (status.code == 0).then(|| status.json())
    }

    /// Waits until `fleetctl status` prints this reason, for people and for programs, and returns the document.
    #[track_caller]
    pub fn until_reason(&self, id: &str, reason: &str) -> Value {
        let wanted = reason.to_lowercase();
        let mut last = String::new();
        let says = |text: &str| {
            let text = text.to_lowercase();
            text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&wanted)
        };
        let seen = within_patience(|| {
            let (text, document) = (self.ctl(["status", id]), self.deployment(id)?);
            let waits = document["waitingOn"].as_str().unwrap_or_default();
            last = format!("{text}waitingOn: {waits}");
            assert!(document["outcome"].is_null(), "it is over, and never waited for {reason:?}: {last}");
            (says(&text.stdout) && says(waits)).then_some(document)
        });
        seen.unwrap_or_else(|| panic!("{id} never said that it waits for {reason:?}; last:\n{last}"))
    }

    /// `kill -9` of the controller, and it comes up again; waits until it has seen every node that has an agent.
    #[track_caller]
    pub fn bounce_controller(&self) {
        let there: Vec<_> = self.nodes().into_iter().filter(|node| self.agent(node).is_some()).collect();
        self.kill_controller();
        self.start_controller();
        until("the agents are back after the controller", || {
            let list = self.ctl(["nodes", "list", "-o", "json"]);
            let list = (list.code == 0).then(|| list.json())?;
            let ready = |name: &String| list["items"].as_array()?.iter().find(|node| node["name"] == **name).cloned();
            let ready =
                |name| ready(name).is_some_and(|node| node["state"] != "unreachable" && node["state"] != "unknown");
            there.iter().all(ready).then_some(())
        });
    }

    /// Waits for the end of a deployment as an operator does; it must end with this code. Its document.
    #[track_caller]
    pub fn ended(&self, id: &str, code: i32) -> Value {
        let text = self.ctl(["wait", id, "-o", "json"]).expect(code);
        if code != 0 {
            text.clone().never_says("\"converged\"");
        }
        text.json()
    }

    /// Follows a deployment that was begun before, from its first fact on.
    pub fn watch(&self, id: &str) -> Stream {
        Stream::start(self.command("fleetctl").args(["wait", id, "-o", "jsonl"]))
    }

    /// The kinds of all facts of a deployment that is over, in their order, with segment, node and text.
    #[track_caller]
    pub fn facts(&self, id: &str) -> Vec<Value> {
        let told = self.ctl(["wait", id, "-o", "jsonl"]);
        let events = told.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let facts: Vec<_> = events.filter(|event| event["type"] == "fact").collect();
        assert!(!facts.is_empty(), "{told}");
        facts
    }

    /// The id of a release of `hello`.
    #[track_caller]
    pub fn release_id(&self, version: &str) -> String {
        let list = self.ctl(["releases", "list", "-o", "json"]).expect(0).json();
        let found = list["items"].as_array().unwrap().iter().find(|release| release["version"] == version).cloned();
        found.unwrap_or_else(|| panic!("no release {version}: {list:#}"))["id"].as_str().unwrap().to_owned()
    }

    /// Why a node does not truly run a release of `hello`: its link, its one process and its answer must all be of it.
    pub fn does_not_run(&self, node: &str, release: &str, answers: &str) -> Option<String> {
        let current = self.service_root(node, "hello").join("current").canonicalize().unwrap_or_default();
        if current.file_name().is_none_or(|name| name != release) {
            return Some(format!("{node}: current leads to {}", current.display()));
        }
        let serving: Vec<_> = self.services(node).into_iter().filter(|proc| proc.program() == "hello").collect();
        match &serving[..] {
            [one] if one.executable().starts_with(&current) => {}
            other => {
                let which: Vec<_> = other.iter().map(|proc| (proc.pid, proc.executable())).collect();
                return Some(format!("{node}: not one process of {}, but {which:?}", current.display()));
            }
        }
        match get(self.port(node), "/") {
            Ok(answer) if answer.version.as_deref() == Some(answers) => None,
            other => Some(format!("{node}: answers {other:?} instead of version {answers}")),
        }
    }
}

fn within_patience<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    while start.elapsed() < REASON_LIMIT {
        if let Some(seen) = look() {
            return Some(seen);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    look()
}

/// Far above what any reason of a story takes to come; below [`crate::wait::PATIENCE`], so that what was said last is
/// shown before something else gives up.
const REASON_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
