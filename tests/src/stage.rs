//! Several stories on one fleet: bringing twelve agents up costs seconds, so stories that do not disturb each other share
//! them. Each begins on a calm fleet, is timed, and fails for itself.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::releases;
use crate::wait::until;

/// A fleet and the releases that its stories have made.
pub struct Stage {
    /// The fleet.
    pub fleet: Fleet,
    made: Cell<u32>,
}

/// A release that a story has made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its folder.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// What its program answers as its own version: two neighbours differ.
    pub answers: &'static str,
}

/// One story.
pub type Story = (&'static str, fn(&Stage));

impl Stage {
    /// A fleet of which every node runs the first release.
    #[track_caller]
    pub fn set(fleet: Fleet) -> (Stage, Made) {
        let stage = Stage { fleet, made: Cell::new(0) };
        let first = stage.make();
        stage.fleet.deploy(&first.path, &["--segments", "1"]).expect(0);
        (stage, first)
    }

    /// A release that was never deployed, and works.
    pub fn make(&self) -> Made {
        self.make_with("", 20)
    }

    /// The same with more text at the end of its `fleet.yaml`.
    pub fn make_with(&self, more: &str, patience_s: u32) -> Made {
        let (number, version) = self.number();
        let (binary, answers) = if number.is_multiple_of(2) { ("hello-v2", "2.0.0") } else { ("hello-v1", "1.0.0") };
        let rest = format!(
            "run: bin/hello --port ${{PORT}}\nhealth: {{http: /healthz, interval: 200ms, timeout: {patience_s}s}}\n{more}"
        );
        Made { path: releases::hello_with(&self.fleet.folder(), binary, &version, &[], &rest), version, answers }
    }

    /// A release that starts and is never healthy.
    pub fn make_broken(&self) -> Made {
        let (_, version) = self.number();
        let path = releases::hello(&self.fleet.folder(), "hello-broken", &version, 2);
        Made { path, version, answers: "" }
    }

    fn number(&self) -> (u32, String) {
        self.made.set(self.made.get() + 1);
        (self.made.get(), format!("1.{}.0", self.made.get()))
    }

    /// What every node holds now, as the newest deployment that changed all of them left it.
    #[track_caller]
    pub fn run_by(&self, nodes: &[String], release: &Made) {
        let id = self.fleet.release_id(&release.version);
        let wrong: Vec<_> =
            nodes.iter().filter_map(|node| self.fleet.does_not_run(node, &id, release.answers)).collect();
        assert!(wrong.is_empty(), "{} is {id}, and not everyone runs it: {wrong:#?}", release.version);
    }

    /// Every node truly runs this.
    #[track_caller]
    pub fn run_by_all(&self, release: &Made) {
        self.run_by(&self.fleet.nodes(), release);
    }

    /// Every node is brought to a new release, whatever was before.
    #[track_caller]
    pub fn level(&self) -> Made {
        let made = self.make();
        self.fleet.deploy(&made.path, &["--segments", "1"]).expect(0);
        made
    }

    /// A shell script beside the fleet.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.fleet.folder().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A folder beside the fleet into which everyone may write: what runs on a node is not who runs the story.
    pub fn open_folder(&self, name: &str) -> PathBuf {
        let path = self.fleet.folder().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// Plays the stories one after the other. One that fails is told at the end, and does not keep the others away.
    #[track_caller]
    pub fn play(&self, stories: &[Story]) {
        let only = std::env::var("FLEET_TESTS_STORY").unwrap_or_default();
        let mut failed = Vec::new();
        for (name, story) in stories.iter().filter(|(name, _)| name.contains(&only)) {
            let start = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| story(self)));
            let word = if end.is_ok() { "ok" } else { "FAILED" };
            eprintln!("story {name}: {word} after {:.1} s", start.elapsed().as_secs_f32());
            if end.is_err() {
                failed.push(*name);
                self.calm();
            }
        }
        assert!(failed.is_empty(), "stories that failed: {failed:?}");
    }

    /// After a failure: everything that was stopped runs again, and what is under way is ended.
    fn calm(&self) {
        let fleet = &self.fleet;
        let quietly = |what: &dyn Fn()| {
            let _failed = catch_unwind(AssertUnwindSafe(what));
        };
        if fleet.controller().is_none() {
            quietly(&|| {
                fleet.start_controller();
            });
        }
        for node in fleet.nodes().iter().filter(|node| fleet.agent(node).is_none()) {
            quietly(&|| {
                fleet.start_agent(node);
            });
        }
        quietly(&|| {
            until("the controller answers", || (fleet.ctl(["status"]).code == 0).then_some(()));
            let list = fleet.ctl(["history", "-o", "json"]).json();
            let running = list["items"].as_array().into_iter().flatten().filter(|item| item["outcome"].is_null());
            for id in running.filter_map(|item| item["id"].as_str()) {
                fleet.ctl(["abort", id, "--leave"]);
            }
            fleet.deploy(&self.make().path, &["--segments", "1", "--supersede"]);
        });
    }
}

/// The lines of a file that something else writes; none while there is no file.
pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until somebody has written so many lines.
#[track_caller]
pub fn until_lines(path: &Path, count: usize) -> Vec<String> {
    until(&format!("{} has {count} lines", path.display()), || {
        let lines = lines(path);
        (lines.len() >= count).then_some(lines)
    })
}

/// The names of the nodes of each segment of a plan or deployment.
pub fn segments(document: &Value) -> Vec<Vec<String>> {
    let names = |segment: &Value| names(&segment["nodes"]);
    document["segments"].as_array().unwrap().iter().map(names).collect()
}

/// The names in a list of nodes.
pub fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap().to_owned()).collect()
}
