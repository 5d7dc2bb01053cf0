//! Releases of `hello` that nobody has seen before: other programs, other files, other links, in every number and size.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dice::Dice;
use crate::workspace::Workspace;

/// What a release is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It starts and never becomes healthy.
    Broken,
}

/// How long the probe of a broken release waits: what it answers at first it answers for ever.
const PATIENCE: &str = "1s";
/// The most files beside the program. What many files cost is measured elsewhere.
const MOST_FILES: u64 = 24;
/// The largest file, and the most that is put behind the program.
const LARGEST: u64 = 256 << 10;

/// Where releases are made.
#[derive(Debug)]
pub struct Foundry {
    dir: PathBuf,
    programs: PathBuf,
}

impl Foundry {
    /// In a folder of its own. Programs come without what debuggers need, which is nine tenths of them; with it where
    /// nothing can take it away.
    pub fn in_folder(dir: PathBuf) -> Foundry {
        let lean = dir.join("programs");
        fs::create_dir_all(&lean).unwrap();
        let strip = |name: &str| {
            let mut command = Command::new("strip");
            command.arg("-o").arg(lean.join(name)).arg(Workspace::built().binary(name));
            command.output().is_ok_and(|output| output.status.success())
        };
        let stripped = ["hello-v1", "hello-v2", "hello-broken"].into_iter().all(strip);
        Foundry { dir, programs: if stripped { lean } else { Workspace::built().binaries.clone() } }
    }

    /// Writes a release, in the place of the one before.
    pub fn make(&self, version: &str, health: Health, dice: &mut Dice) -> PathBuf {
        let dir = self.dir.join("release");
        // What another release has left there must not become a part of this one.
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(dir.join("bin")).unwrap();
        let (binary, timeout) = match health {
            Health::Good => (*dice.one_of(&["hello-v1", "hello-v2"]), "20s"),
            Health::Broken => ("hello-broken", PATIENCE),
        };
        // What stands behind the last section of a program is not loaded: the same program under another digest.
        let mut program = fs::read(self.programs.join(binary)).unwrap();
        let size = dice.size(1, LARGEST);
        program.extend(dice.bytes(size));
        fs::write(dir.join("bin/hello"), program).unwrap();
        let tree = if plant(&dir.join("tree"), dice) > 0 { "  - {source: tree, destination: share}\n" } else { "" };
        let text = format!(
            "apiVersion: fleet/v1\nservice: hello\nrelease: {{version: \"{version}\"}}\nnodes: role=web\nfiles:\n  \
             - {{source: bin/hello, destination: bin/hello, mode: \"0755\"}}\n{tree}run: bin/hello --port ${{PORT}}\n\
             health: {{http: /healthz, timeout: {timeout}}}\n"
        );
        fs::write(dir.join("fleet.yaml"), text).unwrap();
        dir
    }
}

/// Files and links of all sizes in folders of all depths; how many.
fn plant(tree: &Path, dice: &mut Dice) -> u64 {
    let count = dice.below(MOST_FILES + 1);
    let mut folders = vec![tree.to_owned()];
    for number in 0..count {
        if dice.happens(20) {
            let folder = dice.one_of(&folders).join(format!("folder {number}"));
            folders.push(folder);
        }
        let folder = dice.one_of(&folders).clone();
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{number}-ä"));
        if dice.happens(15) {
            // Where it leads need not exist.
            symlink(format!("{}-ä", dice.below(count)), &path).unwrap();
            continue;
        }
        let size = if dice.happens(10) { 0 } else { dice.size(1, LARGEST) };
        fs::write(&path, dice.bytes(size)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*dice.one_of(&[0o644, 0o600, 0o755, 0o444]))).unwrap();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_plants_the_same_tree() {
        let seen = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let count = plant(&dir.path().join("tree"), &mut Dice::seeded(seed));
            let mut names = Vec::new();
            let mut folders = vec![dir.path().to_owned()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap().flatten() {
                    let (path, kind) = (entry.path(), entry.file_type().unwrap());
                    if kind.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    let size = if kind.is_file() { fs::read(&path).unwrap().len() } else { 0 };
                    names.push((path.strip_prefix(dir.path()).unwrap().to_owned(), size));
                }
            }
            names.sort();
            assert_eq!(names.len() as u64, count);
            names
        };
        assert!((0..20).all(|seed| seen(seed) == seen(seed)));
        assert!((0..20).any(|seed| seen(seed) != seen(seed + 1)));
    }
}
