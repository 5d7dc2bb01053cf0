//! The service file: `fleet.yaml` and what it asks for.
//!
//! Reading is strict: an unknown key, a key of a later version, a repeated key or a value that another YAML reader
//! would take for something else is one clear error with file, line and column. The text becomes values here and a
//! [`Descriptor`] in `sources`; sending a bundle anywhere is left to the commands.

mod command;
mod error;
mod keys;
mod read;
mod rollout;
mod scalar;
mod sources;
mod version;
mod yaml;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use fleet::capacity::{MinHealthy, Parallel};
use fleet::deployment::{Budget, Host, OnFailure};
use fleet::release::{Descriptor, Grade, Pin, Probe, Run};
use fleet::segments::Segments;
use fleet::sequence::Sequence;
use fleet::{Millis, ServiceName};
use fleet_bundle::Packed;

use crate::wishes::{ConfirmWithin, MigrationPlace};

pub use error::ServiceFileError;
pub use version::VersionSource;
pub use yaml::Place;

/// The name of the file in an application's repository.
pub const FILE_NAME: &str = "fleet.yaml";
/// The largest service file accepted, in bytes: a thousand times the usual one.
const LARGEST: u64 = 256 * 1024;

/// A service file that was read and checked. Its sources may still be missing: [`ServiceFile::describe`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// Where it was read from, as messages show it.
    pub file: PathBuf,
    /// The service.
    pub service: ServiceName,
    /// What it is, for people.
    pub description: Option<String>,
    /// Who answers for it.
    pub owners: Vec<String>,
    /// Where the version label comes from.
    pub version: VersionSource,
    /// Which nodes it is meant for, as label requirements; empty means every node.
    pub nodes: BTreeMap<String, String>,
    /// What is shipped, in the order of the file.
    pub files: Vec<FileRule>,
    /// How it is run.
    pub run: Run,
    /// How its health is asked for.
    pub health: Option<Probe>,
    /// The least evidence accepted as proof; `digest` unless the file says otherwise.
    pub minimum_grade: Grade,
    /// What files outside the release must be.
    pub pins: Vec<Pin>,
    /// How it is deployed unless the command says otherwise.
    pub deploy: DeployDefaults,
    /// Where `run` stands, for errors that only the files can show.
    run_place: Place,
}

/// One item of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRule {
    /// A file or directory, relative to the service file; a directory stands for its contents.
    pub source: String,
    /// Where it goes, relative to the release; empty means the release itself.
    pub destination: String,
    /// Whether a file goes into `destination` under its own name, because that ends with `/`.
    pub placement: Placement,
    /// Permission bits of the files; without it 0755 or 0644, depending on whether the source is executable.
    pub mode: Option<u32>,
    /// Where `source` stands.
    pub place: Place,
}

/// How `destination` is meant when the source is a single file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It is the file's path in the release.
    As,
    /// It is a directory, and the file keeps its name.
    Into,
}

/// `deploy:` and `hooks.migrate` of the service file: what a flag of `fleetctl deploy` overrides. `None` leaves it to the
/// command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeployDefaults {
    /// How the fleet is cut.
    pub segments: Option<Segments>,
    /// Who goes first.
    pub order: Option<Sequence>,
    /// How many nodes of a segment move at once.
    pub parallel: Option<Parallel>,
    /// How many nodes must serve at any time.
    pub min_healthy: Option<MinHealthy>,
    /// How long a segment must stay healthy.
    pub bake: Option<Millis>,
    /// How many nodes may fail.
    pub max_failures: Option<Budget>,
    /// What happens when more do.
    pub on_failure: Option<OnFailure>,
    /// After these segments, from 1, it waits to be promoted.
    pub pause_after: Vec<u32>,
    /// What is asked after each segment.
    pub test: Option<FileTest>,
    /// How long an agent waits to be confirmed.
    pub confirm: Option<ConfirmWithin>,
    /// What is run once per deployment.
    pub migrate: Option<FileMigration>,
}

/// `deploy.test`: a command that answers after each segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTest {
    /// The command line, for a shell in the directory of the file.
    pub run: String,
    /// Where it runs.
    pub from: Host,
    /// How long an answer is waited for; None: as long as the controller does.
    pub timeout: Option<Millis>,
}

/// `hooks.migrate`: a command that one node runs, once per deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMigration {
    /// The command line, in the new release's directory.
    pub run: String,
    /// How long it may take; None: as long as the controller lets it.
    pub timeout: Option<Millis>,
    /// When.
    pub place: MigrationPlace,
}

/// Reads and checks a service file, or `fleet.yaml` of a directory.
///
/// # Errors
/// The first thing that is wrong with it, with its place and the way out.
pub fn load(path_or_dir: &Path) -> Result<ServiceFile, ServiceFileError> {
    let path = match path_or_dir.is_dir() {
        true if path_or_dir == Path::new(".") => PathBuf::from(FILE_NAME),
        true => path_or_dir.join(FILE_NAME),
        false => path_or_dir.to_owned(),
    };
    let unreadable = |source| ServiceFileError::Unreadable { path: path.clone(), source };
    let file = File::open(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => missing(&path),
        _ => unreadable(source),
    })?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ServiceFileError::TooLarge { path, largest: LARGEST });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("it is not UTF-8: {}", error.utf8_error()),
        ))
    })?;
    parse(&path, &text)
}

/// Reads and checks the text of a service file; `path` is for messages only.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<ServiceFile, ServiceFileError> {
    yaml::parse(text).and_then(|root| read::service_file(path, root)).map_err(|problem| problem.of(path))
}

/// Reads `fleet.yaml` of a directory, packs the release and puts the bundle at `out`, whole or not at all.
///
/// # Errors
/// Whatever is wrong with the file, its sources, or writing the bundle.
pub fn pack_directory(dir: &Path, out: &Path) -> Result<Packed, ServiceFileError> {
    let file = load(dir)?;
    let base =
        if dir.is_dir() { dir } else { dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
    file.pack(base, out)
}

impl ServiceFile {
    /// Reads the sources below `dir` and describes the release they make: version, manifest, and all the rest.
    ///
    /// # Errors
    /// A source that is missing, leaves `dir` or clashes with another, by its line; a version that cannot be found.
    pub fn describe(&self, dir: &Path) -> Result<Descriptor, ServiceFileError> {
        sources::collect(self, dir)?.describe(self, dir)
    }

    /// Packs the release of the sources below `dir` into a bundle at `out`, whole or not at all.
    ///
    /// # Errors
    /// As [`ServiceFile::describe`]; a source that changes meanwhile; a disk that is full.
    pub fn pack(&self, dir: &Path, out: &Path) -> Result<Packed, ServiceFileError> {
        let sources = sources::collect(self, dir)?;
        let descriptor = sources.describe(self, dir)?;
        sources.pack(&descriptor, out)
    }
}

/// Nothing at `path`: perhaps it has another name.
fn missing(path: &Path) -> ServiceFileError {
    let beside = |name: &str| path.with_file_name(name);
    let help = if beside("fleet.yml").is_file() {
        "there is a fleet.yml: rename it to fleet.yaml".to_owned()
    } else if beside("appspec.yml").is_file() || beside("appspec.yaml").is_file() {
        "there is an appspec.yml, which this version cannot deploy yet: write a fleet.yaml beside it".to_owned()
    } else {
        "name a directory with a fleet.yaml, or write one: apiVersion, service, nodes, files, run and health".to_owned()
    };
    ServiceFileError::Missing { path: path.to_owned(), help }
}
