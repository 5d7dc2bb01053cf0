//! The tree that B7 and B8 look at: 20,000 files of a gibibyte as the release of a service, with its manifest, and a
//! second service of one file; each with a process that runs from it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::{Digest, ReleaseId};

use crate::floor;
use crate::looking::Service;
use crate::ours::copy_program;
use crate::tree::{Shape, Tree};
use crate::workplace::Workplace;

/// The tree of the description, as large as a release may be with its program.
const SHAPE: Shape = Shape { files: 20_000, bytes: (1 << 30) - (16 << 20), seed: 7 };

/// What is looked at.
pub struct Gibibyte {
    /// The folder with the files.
    pub tree: PathBuf,
    /// What is in it.
    pub made: Tree,
    /// The two services.
    pub services: [Service; 2],
}

impl Gibibyte {
    /// Makes it.
    ///
    /// # Errors
    /// Something cannot be written or started.
    pub fn make(place: &Workplace, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        say(&format!("making {} files of a gibibyte", SHAPE.files));
        let roots = [place.dir.join("services/large"), place.dir.join("services/small")];
        let releases = [ReleaseId::of(&Digest([1; 32])), ReleaseId::of(&Digest([2; 32]))];
        let hold = |at: usize| roots[at].join("releases").join(releases[at].as_str());
        for at in 0..2 {
            fs::create_dir_all(hold(at).join("bin"))?;
            copy_program(&place.programs.join("hello-v1"), &hold(at).join("bin/hello"))?;
            symlink(format!("releases/{}", releases[at]), roots[at].join("current"))?;
        }
        let tree = hold(0).join("tree");
        let made = SHAPE.plant(&tree)?;
        let names: Vec<String> = made.files.iter().map(|name| format!("tree/{name}")).collect();
        let service = |at: usize, names: &[String]| -> anyhow::Result<Service> {
            let manifest = place.dir.join(format!("manifest-{at}.json"));
            fs::write(&manifest, serde_json::to_vec(&describe(&hold(at), names)?)?)?;
            let program = hold(at).join("bin/hello");
            let mut command = Command::new(&program);
            command.arg("--worker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Ended with all other descendants.
            let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
            let main = i32::try_from(child.id())?;
            Ok(Service { root: roots[at].clone(), release: releases[at].clone(), manifest, main })
        };
        let services = [service(0, &names)?, service(1, &[])?];
        Ok(Self { tree, made, services })
    }

    /// A list of all files for `xargs -0`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn list(&self, to: &Path) -> anyhow::Result<()> {
        let paths: Vec<String> =
            self.made.files.iter().map(|name| self.tree.join(name).display().to_string()).collect();
        fs::write(to, paths.join("\0")).context("cannot write the list of files")
    }
}

/// The manifest of the program and so many files, as they are.
fn describe(release: &Path, names: &[String]) -> anyhow::Result<Manifest> {
    let names: Vec<String> = names.iter().cloned().chain(["bin/hello".to_owned()]).collect();
    let (digests, _, _) = floor::hash(release, &names, 2)?;
    let entry = |(name, sha256): (&String, Digest)| -> anyhow::Result<Entry> {
        let found = fs::metadata(release.join(name))?;
        let kind = EntryKind::File { sha256, size: found.len() };
        Ok(Entry { path: name.parse()?, mode: found.permissions().mode() & 0o7777, kind })
    };
    let entries: anyhow::Result<Vec<Entry>> = names.iter().zip(digests).map(entry).collect();
    Ok(Manifest::new(entries?)?)
}
