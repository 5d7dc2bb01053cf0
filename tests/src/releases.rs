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
    let release = dir.join(format!("release-{version}"));
    fs::create_dir_all(release.join("bin")).unwrap();
    let to = release.join("bin/hello");
    fs::copy(Workspace::built().binary(binary), &to).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!(
        "apiVersion: fleet/v1\nservice: hello\nrelease: {{version: \"{version}\"}}\nnodes: role=web\nfiles:\n  - {{source: bin/hello, destination: bin/hello, mode: \"0755\"}}\nrun: bin/hello --port ${{PORT}}\nhealth: {{http: /healthz, timeout: {patience_s}s}}\n"
    );
    fs::write(release.join("fleet.yaml"), text).unwrap();
    release
}

/// SHA-256 of a file, as lower-case hexadecimal.
pub fn sha256(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    digest(&mut file).unwrap().0.hex()
}
