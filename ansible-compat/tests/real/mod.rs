//! The real Ansible, in as many versions as there are, each as one process that answers questions.
//!
//! Versions are looked for in `$FLEET_ANSIBLE_VENVS` (virtual environments with colons between), then in
//! `$FLEET_ANSIBLE_VENV`, then on PATH. A test without any says `SKIPPED`.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ansible_compat::Edition;
use serde_json::{Value, json};

/// One installed version.
#[derive(Clone, Debug)]
pub struct Version {
    /// The directory of its programs.
    pub bin: PathBuf,
    /// The Python it runs on.
    pub python: PathBuf,
    /// Its number.
    pub number: String,
    /// How it reads inventories.
    pub edition: Edition,
}

/// Every version there is; none is said on the terminal itself, since the test harness swallows what passing tests print.
pub fn versions(test: &str) -> Vec<Version> {
    let named = std::env::var_os("FLEET_ANSIBLE_VENVS").filter(|named| !named.is_empty());
    let venvs: Vec<PathBuf> = match (named, std::env::var_os("FLEET_ANSIBLE_VENV")) {
        (Some(named), _) => std::env::split_paths(&named).map(|venv| venv.join("bin")).collect(),
        (None, Some(one)) => vec![PathBuf::from(one).join("bin")],
        (None, None) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let on_path: Vec<_> =
                std::env::split_paths(&path).filter(|bin| bin.join("ansible-inventory").is_file()).collect();
            on_path.into_iter().take(1).collect()
        }
    };
    let found: Vec<Version> = venvs.iter().filter_map(|bin| version_in(bin)).collect();
    assert!(found.len() == venvs.len(), "{venvs:?}: in some of these there is no ansible-inventory");
    if found.is_empty() {
        let line = format!(
            "\n=== SKIPPED: {test} did not run, there is no ansible-inventory on PATH, in $FLEET_ANSIBLE_VENVS or in $FLEET_ANSIBLE_VENV ===\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

fn version_in(bin: &Path) -> Option<Version> {
    let script = std::fs::read_to_string(bin.join("ansible-inventory")).ok()?;
    let python = PathBuf::from(script.lines().next()?.strip_prefix("#!")?.trim());
    let output = clean(Command::new(&python), Path::new("/"))
        .args(["-c", "from ansible.release import __version__ as v; print(v)"])
        .output()
        .ok()?;
    let number = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let edition = number.parse().ok()?;
    Some(Version { bin: bin.to_path_buf(), python, number, edition })
}

/// A command that sees Ansible's default configuration, whatever this machine has.
pub fn clean(mut command: Command, home: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ANSIBLE_")) {
            command.env_remove(name);
        }
    }
    command
        .env("ANSIBLE_CONFIG", home.join("ansible.cfg"))
        .env("ANSIBLE_HOME", home)
        .env("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "true")
        .env("ANSIBLE_DEPRECATION_WARNINGS", "false")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// What one version says of an inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// `--list`, without the profile that 2.19 adds.
    pub list: Value,
    /// `--list --export`, likewise.
    pub export: Value,
    /// `--graph`.
    pub graph: String,
    /// `--graph --vars`, where it was asked.
    pub graph_vars: Option<String>,
    /// `--list-hosts`.
    pub hosts: Vec<String>,
}

/// A running version.
pub struct Oracle {
    /// Which one.
    pub version: Version,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    home: tempfile::TempDir,
}

impl Oracle {
    pub fn start(version: &Version) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("ansible.cfg"), "").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/answer.py");
        let mut child = clean(Command::new(&version.python), home.path())
            .arg(script)
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (questions, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { version: version.clone(), child, questions, answers, home }
    }

    /// A directory without `group_vars`, to ask from.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_path_buf()
    }

    /// Asks from the directory with the arguments of `ansible-inventory`; refusals are texts.
    pub fn ask(&mut self, folder: &Path, arguments: &[String], graph_vars: GraphVars) -> Result<Told, String> {
        let question = json!({
            "folder": folder.to_str().unwrap(),
            "arguments": arguments,
            "graph_vars": graph_vars == GraphVars::Wanted,
        });
        writeln!(self.questions.as_mut().unwrap(), "{question}").unwrap();
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "{} has died of {question}", self.version.number);
        let mut told: Value = serde_json::from_str(&line).unwrap();
        if let Some(refused) = told["refused"].as_str() {
            return Err(refused.to_owned());
        }
        for kind in ["list", "export"] {
            told[kind]["_meta"].as_object_mut().unwrap().remove("profile");
        }
        Ok(Told {
            list: told["list"].take(),
            export: told["export"].take(),
            graph: told["graph"].as_str().unwrap().to_owned(),
            graph_vars: told["graph_vars"].as_str().map(str::to_owned),
            hosts: serde_json::from_value(told["hosts"].take()).unwrap(),
        })
    }
}

/// Whether `--graph --vars` is asked for too; it fails where vault values cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphVars {
    Wanted,
    Left,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // The end of its questions is the end of it.
        drop(self.questions.take());
        let _ended = self.child.wait();
    }
}
