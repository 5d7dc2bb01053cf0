//! Where the binaries and examples are, and building them once per test process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folders that a story needs, with everything in them built.
#[derive(Debug)]
pub struct Workspace {
    /// The repository.
    pub root: PathBuf,
    /// Where cargo puts the binaries: `target/debug`.
    pub binaries: PathBuf,
}

impl Workspace {
    /// The workspace of this test, built.
    pub fn built() -> &'static Workspace {
        static BUILT: OnceLock<Workspace> = OnceLock::new();
        BUILT.get_or_init(build)
    }

    /// A binary of the workspace.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// An example's folder.
    pub fn example(&self, name: &str) -> PathBuf {
        self.root.join("examples").join(name)
    }
}

fn build() -> Workspace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    // target/<profile>/deps/<test>-<hash>
    let exe = std::env::current_exe().unwrap();
    let binaries = exe.parent().and_then(Path::parent).unwrap().to_owned();
    if std::env::var_os("FLEET_TESTS_NO_BUILD").is_none() {
        let target = binaries.parent().unwrap();
        let release = binaries.file_name().is_some_and(|name| name == "release");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bins"]);
        if release {
            build.arg("--release");
        }
        run(build.current_dir(&root).env("CARGO_TARGET_DIR", target));
        let mut examples = Command::new(root.join("examples/build"));
        examples.arg(if release { "release" } else { "dev" });
        run(examples.current_dir(&root).env("CARGO_TARGET_DIR", target));
    }
    Workspace { root, binaries }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
