//! Where a release's version label comes from: written down, in a file, or from `git describe`.

use std::path::Path;
use std::process::{Command, Stdio};

use fleet::release::Version;

use super::ServiceFileError;
use super::error::{Message, Problem};
use super::sources;
use super::yaml::Place;

/// Where the version label comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSource {
    /// It is in the service file.
    Literal(Version),
    /// The first line of a file beside it.
    File {
        /// Its path, relative to the service file.
        path: String,
        /// Where it is named.
        place: Place,
    },
    /// `git describe` in the directory of the service file: the default.
    GitDescribe,
}

/// No version file is longer, in bytes: a label has 64.
const LONGEST_FILE: usize = 1_024;

impl VersionSource {
    /// Finds the label. `file` is the service file, for messages; `dir` is where its sources lie.
    pub(super) fn find(&self, file: &Path, dir: &Path) -> Result<Version, ServiceFileError> {
        match self {
            Self::Literal(version) => Ok(version.clone()),
            Self::File { path, place } => from_file(path, *place, dir).map_err(|problem| problem.of(file)),
            Self::GitDescribe => {
                git_describe(dir).map_err(|problem| ServiceFileError::Version { file: file.to_owned(), problem })
            }
        }
    }
}

fn from_file(path: &str, place: Place, dir: &Path) -> Result<Version, Problem> {
    let full = sources::inside(dir, path, place)?;
    let text = std::fs::read(&full)
        .map_err(|error| Problem::new(place, format!("cannot read the version from '{path}': {error}")))?;
    if text.len() > LONGEST_FILE {
        return Err(Problem::new(place, format!("'{path}' has {} bytes, too many for a version", text.len())));
    }
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().map_err(|error| Problem::new(place, format!("the version in '{path}': {error}")))
}

fn git_describe(dir: &Path) -> Result<Version, Message> {
    let help = Some("set release: {version: \"1.0.0\"}, or version: file:VERSION".to_owned());
    let wrong = |text: String| Message { text, help: help.clone() };
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["describe", "--tags", "--always", "--dirty"]).stdin(Stdio::null());
    // Set inside git hooks, where they would name another repository than the one around `dir`.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    let output = command.output().map_err(|error| {
        wrong(format!("there is no release.version, and git could not be run to find one: {error}"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default().trim_start_matches("fatal: ");
        return Err(wrong(format!("there is no release.version, and git describe finds none: {said}")));
    }
    let label = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    label.parse().map_err(|error| wrong(format!("git describe: {error}")))
}
