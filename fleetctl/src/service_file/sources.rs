//! The files a service file asks for: found, checked, digested and packed. They stay inside the directory of the
//! service file, whatever links say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fleet::manifest::{Entry, EntryKind, MOST_ENTRIES, Manifest, RelativePath};
use fleet::release::{DESCRIPTOR_FORMAT, Descriptor};
use fleet_bundle::Packed;

use super::error::Problem;
use super::yaml::{Place, shown};
use super::{FileRule, Placement, ServiceFile, ServiceFileError};

/// Directories are shipped with this mode: entering them is not a secret.
const DIRECTORY_MODE: u32 = 0o755;

/// What will be at each path of the release, and where on disk it comes from.
pub(super) struct Sources {
    found: BTreeMap<RelativePath, Source>,
}

struct Source {
    kind: SourceKind,
    place: Place,
}

enum SourceKind {
    Directory,
    File { path: PathBuf, mode: u32 },
    Link { target: String },
}

/// Finds every file of `file.files` below `dir`.
pub(super) fn collect(file: &ServiceFile, dir: &Path) -> Result<Sources, ServiceFileError> {
    let mut sources = Sources { found: BTreeMap::new() };
    for rule in &file.files {
        sources.add_rule(rule, dir).map_err(|problem| problem.of(&file.file))?;
    }
    sources.check_program(file).map_err(|problem| problem.of(&file.file))?;
    Ok(sources)
}

/// The path of something that must exist at or below `dir`.
pub(super) fn inside(dir: &Path, path: &str, place: Place) -> Result<PathBuf, Problem> {
    let unreadable =
        |what: &Path, error: io::Error| Problem::new(place, format!("cannot read '{}': {error}", what.display()));
    let full = dir.join(path);
    let real = match full.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem = Problem::new(place, format!("'{}' does not exist", shown(path)));
            return Err(match path.split('/').next() {
                Some("bin" | "build" | "dist" | "target") => {
                    problem.help("it must be built first: run the application's build, then this command again")
                }
                _ => problem.help("paths are relative to the directory of the service file"),
            });
        }
        Err(error) => return Err(unreadable(&full, error)),
    };
    let base = dir.canonicalize().map_err(|error| unreadable(dir, error))?;
    if !real.starts_with(&base) {
        let problem = Problem::new(
            place,
            format!("'{}' leads to '{}', outside the directory of the service file", shown(path), real.display()),
        );
        return Err(problem.help("copy what is needed into the directory"));
    }
    Ok(real)
}

impl Sources {
    fn add_rule(&mut self, rule: &FileRule, dir: &Path) -> Result<(), Problem> {
        let path = inside(dir, &rule.source, rule.place)?;
        if path.is_dir() {
            return self.add_contents(&path, &rule.destination, rule);
        }
        let name = rule.source.rsplit('/').next().unwrap_or_default();
        let to = match rule.placement {
            Placement::As => rule.destination.clone(),
            Placement::Into => join(&rule.destination, name),
        };
        self.add_file(path, &to, rule)
    }

    fn add_contents(&mut self, directory: &Path, to: &str, rule: &FileRule) -> Result<(), Problem> {
        if !to.is_empty() {
            self.add(to, SourceKind::Directory, rule.place)?;
        }
        let unreadable =
            |error: io::Error| Problem::new(rule.place, format!("cannot read '{}': {error}", directory.display()));
        for item in fs::read_dir(directory).map_err(unreadable)? {
            let item = item.map_err(unreadable)?;
            let name = item.file_name();
            let Some(name) = name.to_str() else {
                return Err(Problem::new(
                    rule.place,
                    format!("'{}' has a name that is not UTF-8", item.path().display()),
                )
                .help("rename it"));
            };
            let to = join(to, name);
            let kind = item.file_type().map_err(unreadable)?;
            if kind.is_symlink() {
                let target = fs::read_link(item.path()).map_err(unreadable)?;
                let Some(target) = target.to_str() else {
                    return Err(Problem::new(
                        rule.place,
                        format!("the link '{}' points to a name that is not UTF-8", item.path().display()),
                    ));
                };
                self.add(&to, SourceKind::Link { target: target.to_owned() }, rule.place)?;
            } else if kind.is_dir() {
                self.add_contents(&item.path(), &to, rule)?;
            } else {
                self.add_file(item.path(), &to, rule)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf, to: &str, rule: &FileRule) -> Result<(), Problem> {
        let meta = fs::symlink_metadata(&path)
            .map_err(|error| Problem::new(rule.place, format!("cannot read '{}': {error}", path.display())))?;
        if !meta.is_file() {
            return Err(Problem::new(
                rule.place,
                format!("'{}' is neither a file nor a directory nor a link", path.display()),
            )
            .help("sockets, pipes and devices cannot be released"));
        }
        // Only "executable or not" survives a checkout; the rest depends on whose umask it was.
        let own = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        self.add(to, SourceKind::File { path, mode: rule.mode.unwrap_or(own) }, rule.place)
    }

    fn add(&mut self, to: &str, kind: SourceKind, place: Place) -> Result<(), Problem> {
        let path: RelativePath =
            to.parse().map_err(|error: fleet::manifest::ManifestError| Problem::new(place, error.to_string()))?;
        for above in path.parents() {
            let above: RelativePath = above
                .parse()
                .map_err(|error: fleet::manifest::ManifestError| Problem::new(place, error.to_string()))?;
            self.insert(above, SourceKind::Directory, place)?;
        }
        self.insert(path, kind, place)
    }

    fn insert(&mut self, path: RelativePath, kind: SourceKind, place: Place) -> Result<(), Problem> {
        if path.as_str() == ".fleet" {
            return Err(Problem::new(
                place,
                "the release would have '.fleet', a name that is reserved for the bundle's own entries",
            )
            .help("rename it, or ship it elsewhere"));
        }
        if let Some(first) = self.found.get(&path) {
            if matches!((&first.kind, &kind), (SourceKind::Directory, SourceKind::Directory)) {
                return Ok(());
            }
            return Err(Problem::new(
                place,
                format!("'{path}' of the release is already filled by line {}", first.place.line),
            )
            .help("give one of the two another destination"));
        }
        if self.found.len() >= MOST_ENTRIES {
            return Err(Problem::new(place, format!("the release would have more than {MOST_ENTRIES} entries"))
                .help("ship a directory with fewer files"));
        }
        self.found.insert(path, Source { kind, place });
        Ok(())
    }

    /// A program with a `/` in it is meant to be in the release; one without may be on the node's PATH.
    fn check_program(&self, file: &ServiceFile) -> Result<(), Problem> {
        let Some(program) = file
            .run
            .command
            .first()
            .filter(|program| program.contains('/') && !program.starts_with('/') && !program.contains('$'))
        else {
            return Ok(());
        };
        let parts: Vec<&str> = program.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let name = parts.join("/");
        let wrong = |what: String| Err(Problem::new(file.run_place, what));
        match name.parse::<RelativePath>().ok().and_then(|path| self.found.get(&path)).map(|source| &source.kind) {
            None => wrong(format!("'run' starts '{}', which is not in the release", shown(program)))
                .map_err(|p| p.help("add it to files, or write the program's absolute path")),
            Some(SourceKind::Directory) => wrong(format!("'run' starts '{}', which is a directory", shown(program))),
            Some(SourceKind::File { mode, .. }) if mode & 0o111 == 0 => {
                wrong(format!("'run' starts '{}', which has mode {mode:04o} and cannot be executed", shown(program)))
                    .map_err(|p| p.help("set its mode: \"0755\", or start its interpreter"))
            }
            Some(SourceKind::File { .. } | SourceKind::Link { .. }) => Ok(()),
        }
    }

    /// Digests every file and describes the release.
    pub(super) fn describe(&self, file: &ServiceFile, dir: &Path) -> Result<Descriptor, ServiceFileError> {
        let mut entries = Vec::with_capacity(self.found.len());
        for (path, source) in &self.found {
            let (mode, kind) = match &source.kind {
                SourceKind::Directory => (DIRECTORY_MODE, EntryKind::Directory),
                SourceKind::Link { target } => (0o777, EntryKind::Symlink { target: target.clone() }),
                SourceKind::File { path, mode } => {
                    let digested = File::open(path).and_then(|mut file| fleet_bundle::digest(&mut file));
                    let (sha256, size) = digested.map_err(|error| {
                        Problem::new(source.place, format!("cannot read '{}': {error}", path.display())).of(&file.file)
                    })?;
                    (*mode, EntryKind::File { sha256, size })
                }
            };
            entries.push(Entry { path: path.clone(), mode, kind });
        }
        let place = file.files.first().map_or_else(Place::default, |rule| rule.place);
        let manifest = Manifest::new(entries)
            .map_err(|error| Problem::new(self.place_of(&error).unwrap_or(place), error.to_string()).of(&file.file))?;
        let descriptor = Descriptor {
            format: DESCRIPTOR_FORMAT,
            service: file.service.clone(),
            version: file.version.find(&file.file, dir)?,
            nodes: file.nodes.clone(),
            run: file.run.clone(),
            health: file.health.clone(),
            minimum_grade: file.minimum_grade,
            pins: file.pins.clone(),
            manifest,
        };
        fleet_bundle::check(&descriptor)?;
        Ok(descriptor)
    }

    /// The rule that brought in what a manifest error is about.
    fn place_of(&self, error: &fleet::manifest::ManifestError) -> Option<Place> {
        use fleet::manifest::ManifestError::{LinkOutside, NotADirectory, SpecialMode, Twice};
        let (LinkOutside { path, .. } | NotADirectory { path, .. } | SpecialMode { path, .. } | Twice(path)) = error
        else {
            return None;
        };
        self.found.get(path).map(|source| source.place)
    }

    /// Writes the bundle beside `out`, syncs it, and renames it to `out`.
    pub(super) fn pack(&self, descriptor: &Descriptor, out: &Path) -> Result<Packed, ServiceFileError> {
        let failed = |source| ServiceFileError::Output { path: out.to_owned(), source };
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".fleet-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(parent)
            .map_err(failed)?;
        let open = |path: &RelativePath| -> io::Result<Box<dyn Read>> {
            match self.found.get(path).map(|source| &source.kind) {
                Some(SourceKind::File { path, .. }) => Ok(Box::new(BufReader::new(File::open(path)?))),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        };
        let packed = fleet_bundle::pack(descriptor, open, file.as_file_mut())?;
        file.as_file_mut().flush().map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(out).map_err(|error| failed(error.error))?;
        Ok(packed)
    }
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}
