//! What a story asks a fleet: every question through `fleetctl`, as an operator would.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::output::Output;
use crate::stream::Stream;
use crate::wait::until;

impl Fleet {
    /// Runs `fleetctl` to its end.
    pub fn ctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command("fleetctl").args(arguments))
    }

    /// Deploys a folder to its end, with more flags after it.
    pub fn deploy(&self, release: &Path, flags: &[&str]) -> Output {
        let mut command = self.command("fleetctl");
        Output::of(command.arg("deploy").arg(release).arg("--yes").args(flags))
    }

    /// Starts to deploy a folder and reads along its events.
    pub fn deploy_stream(&self, release: &Path, flags: &[&str]) -> Stream {
        let mut command = self.command("fleetctl");
        Stream::start(command.arg("deploy").arg(release).args(["--yes", "-o", "jsonl"]).args(flags))
    }

    /// `verify -o json`.
    pub fn verify(&self) -> Output {
        self.ctl(["verify", "-o", "json"])
    }

    /// `drift -o json`: what was found without anyone asking.
    pub fn drift(&self) -> Output {
        self.ctl(["drift", "-o", "json"])
    }

    /// The finding of this kind on this node in the report as it is now.
    pub fn finding(&self, node: &str, kind: &str) -> Option<Value> {
        let drift = self.drift();
        if drift.code != 2 {
            return None;
        }
        let report = drift.json();
        report["items"].as_array()?.iter().find(|item| item["node"] == node && item["kind"] == kind).cloned()
    }

    /// A node as `nodes list` says it.
    pub fn node_state(&self, node: &str) -> String {
        let list = self.ctl(["nodes", "list", "-o", "json"]);
        if list.code != 0 {
            return String::new();
        }
        let items = list.json()["items"].clone();
        let found = items.as_array().into_iter().flatten().find(|item| item["name"] == node);
        found.and_then(|item| item["state"].as_str()).unwrap_or_default().to_owned()
    }

    /// Waits until the controller says that this node is in this state.
    #[track_caller]
    pub fn until_state(&self, node: &str, state: &str) {
        until(&format!("{node} is {state}"), || (self.node_state(node) == state).then_some(()));
    }

    /// Waits until every node is ready.
    #[track_caller]
    pub fn until_ready(&self) {
        for node in self.nodes() {
            self.until_state(&node, "ready");
        }
    }

    /// Waits until a fresh round finds every node proven, and returns that report.
    #[track_caller]
    pub fn until_verified(&self) -> Value {
        until("verify exits 0", || {
            let verify = self.verify();
            (verify.code == 0).then(|| verify.json())
        })
    }
}
