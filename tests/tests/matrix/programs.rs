//! The programs of the matrix: what each release of them consists of, how it is started, and which process of it is
//! left running. Every version differs in bytes and in nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleet::release::Grade;
use fleet_tests::workspace::Workspace;

/// One row of the matrix.
pub struct Program {
    /// As the table names it.
    pub name: &'static str,
    pub command: &'static [&'static str],
    /// What the process that is looked at executes, by the end of the path.
    pub executes: &'static str,
    pub whom: Whom,
    /// The grade with which it is proven where everything is as it should be.
    pub proven: Grade,
    pub needs: Needs,
}

/// Which process is left running at the switch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The main process itself.
    Main,
    /// A worker that has left the tree; the main process is started anew.
    Orphan,
}

/// What a machine must have for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Program(&'static str),
    /// Mounting and chroot take root.
    Root,
}

const fn program(name: &'static str, command: &'static [&'static str], executes: &'static str) -> Program {
    Program { name, command, executes, whom: Whom::Main, proven: Grade::Digest, needs: Needs::Nothing }
}

/// Every row, in the order of the table.
pub const PROGRAMS: [Program; 9] = [
    program("Rust binary", &["bin/hello", "--port", "0"], "bin/hello"),
    Program { needs: Needs::Program("cc"), ..program("C, its shared library", &["bin/app"], "bin/app") },
    Program {
        proven: Grade::OpenFile,
        needs: Needs::Program("java"),
        ..program("Java with a jar", &["java", "-Xint", "-Xmx16m", "-jar", "app.jar"], "bin/java")
    },
    Program {
        proven: Grade::Context,
        needs: Needs::Program("python3"),
        ..program("Python", &["python3", "app.py"], "python3")
    },
    Program { proven: Grade::Context, needs: Needs::Program("node"), ..program("Node", &["node", "app.js"], "node") },
    Program { proven: Grade::OpenFile, ..program("shell script", &["sh", "run.sh"], "sh") },
    Program {
        whom: Whom::Orphan,
        needs: Needs::Program("cc"),
        ..program("orphan worker", &["bin/app", "fork"], "bin/app")
    },
    Program { needs: Needs::Root, ..program("chrooted", &["bin/app", "jail"], "bin/app") },
    Program { needs: Needs::Root, ..program("own mount namespace", &["bin/app", "contain"], "bin/app") },
];

impl Program {
    /// Why it cannot be run here.
    pub fn missing(&self) -> Option<String> {
        let has = |name: &str, option: &str| {
            Command::new(name).arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        match self.needs {
            Needs::Nothing => None,
            Needs::Program("java") if !has("python3", "--version") => Some("no python3 to make its jar".into()),
            Needs::Program(name) => (!has(name, "--version")).then(|| format!("no {name}")),
            Needs::Root if !has("cc", "--version") => Some("no cc".into()),
            Needs::Root => (!fleet_tests::disk::may_mount()).then(|| "not root, or mounting is forbidden".into()),
        }
    }

    /// The service's name.
    pub fn service(&self) -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        self.name.replace(", ", " ").chars().map(word).collect()
    }

    /// Writes version `number` of it below `root`; `pipe` is something that a shell can wait for.
    pub fn write(&self, root: &Path, number: u8, pipe: &Path) {
        fs::create_dir_all(root).unwrap();
        let text = |name: &str, text: String| fs::write(root.join(name), text).unwrap();
        match self.name {
            "Rust binary" => {
                let built = Workspace::built().binary(&format!("hello-v{number}"));
                install(&built, &root.join("bin/hello"));
            }
            "C, its shared library" => {
                let source = format!("const char *library_version(void) {{ return \"{number}\"; }}\n");
                compile(&root.join("lib/libversion.so"), &["-shared", "-fPIC", "-x", "c", "-"], &source);
                // The program itself is the same in both versions.
                let lib = root.join("lib").display().to_string();
                let flags =
                    [APP, "-DVERSION=\"0\"", "-DWITH_LIBRARY", "-L", &lib, "-lversion", "-Wl,-rpath,$ORIGIN/../lib"];
                compile(&root.join("bin/app"), &flags, "");
            }
            "Java with a jar" => jar(&root.join("app.jar"), &super::class::main(number)),
            "Python" => text(
                "app.py",
                format!(
                    "# version {number}\nimport os, signal\nopen(os.environ['READY'], 'w').close()\nsignal.pause()\n"
                ),
            ),
            "Node" => text(
                "app.js",
                format!(
                    "// version {number}\nrequire('fs').writeFileSync(process.env.READY, '');\nsetInterval(() => {{}}, 1 << 30);\n"
                ),
            ),
            "shell script" => text("run.sh", format!("# version {number}\nread line < {}\n", pipe.display())),
            "orphan worker" | "chrooted" | "own mount namespace" => {
                compile(&root.join("bin/app"), &[APP, &format!("-DVERSION=\"{} {number}\"", self.name), "-static"], "");
            }
            other => panic!("no release of {other}"),
        }
    }
}

const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix/app.c");

/// Written by another process: what this one has open for writing could be inherited by a start in the same moment.
fn install(from: &Path, to: &Path) {
    let done = Command::new("install").args(["-D", "-m", "0755"]).arg(from).arg(to).status().unwrap();
    assert!(done.success(), "install {}", to.display());
}

fn compile(to: &Path, flags: &[&str], source: &str) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(Command::new("cc").arg("-o").arg(to).args(flags), source);
}

fn jar(to: &PathBuf, class: &[u8]) {
    const SCRIPT: &str = r"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as jar:
    jar.writestr(zipfile.ZipInfo('META-INF/MANIFEST.MF'), 'Manifest-Version: 1.0\nMain-Class: Main\n')
    jar.writestr(zipfile.ZipInfo('Main.class'), bytes.fromhex(sys.stdin.read()))
";
    let hex: String = class.iter().map(|byte| format!("{byte:02x}")).collect();
    run(Command::new("python3").args(["-c", SCRIPT]).arg(to), &hex);
}

fn run(command: &mut Command, input: &str) {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever does not read it has closed it.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
