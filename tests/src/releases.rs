//! Releases for the stories: the examples' binaries under other versions and with other probes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fleet_bundle::digest;

use crate::workspace::Workspace;

/// Writes a release of the service `hello` into `dir`: `binary` is `hello-v1`, `hello-v2` or `hello-broken`.
///
/// The probe gives up after `patience_s` seconds, so that a broken version fails soon.
pub fn hello(dir: &Path, binary: &str, version: &str, patience_s: u32) -> PathBuf {
    let rest = format!("run: bin/hello --port ${{PORT}}\nhealth: {{http: /healthz, timeout: {patience_s}s}}\n");
    hello_with(dir, binary, version, &[], &rest)
}

/// Writes a release of the service `hello` with more files, given with their text, and with `rest` as the end of its
/// `fleet.yaml`: how it is run, asked and proven. What lies in `bin/` is executable.
pub fn hello_with(dir: &Path, binary: &str, version: &str, more: &[(&str, &str)], rest: &str) -> PathBuf {
    let release = dir.join(format!("release-{version}"));
    let mut text =
        format!("apiVersion: fleet/v1\nservice: hello\nrelease: {{version: \"{version}\"}}\nnodes: role=web\nfiles:\n");
    let program = fs::read(Workspace::built().binary(binary)).unwrap();
    let files = more.iter().map(|(name, text)| (*name, text.as_bytes()));
    for (name, content) in files.chain([("bin/hello", program.as_slice())]) {
        let (to, mode) = (release.join(name), if name.starts_with("bin/") { 0o755 } else { 0o644 });
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(&to, content).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        text += &format!("  - {{source: {name}, destination: {name}, mode: \"{mode:04o}\"}}\n");
    }
    fs::write(release.join("fleet.yaml"), text + rest).unwrap();
    release
}

/// SHA-256 of a file, as lower-case hexadecimal.
pub fn sha256(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    digest(&mut file).unwrap().0.hex()
}
