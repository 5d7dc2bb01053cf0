//! A service that says which version of the C library it may run with: proven where that is installed, and turned back
//! where another is, with the reason said.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::Command;

use fleet_tests::{Fleet, releases};

/// The version of a package that is installed here; None where there is no dpkg.
fn installed(package: &str) -> Option<String> {
    let asked = Command::new("dpkg-query").args(["--show", "--showformat=${Version}\\n", package]).output().ok()?;
    let text = String::from_utf8(asked.stdout).unwrap();
    text.lines().next().filter(|_| asked.status.success()).map(str::to_owned)
}

#[test]
fn a_service_is_proven_with_the_pinned_version_of_a_package_and_turned_back_with_another() {
    let Some(version) = installed("libc6") else {
        let _closed = writeln!(std::io::stderr(), "SKIPPED: pins by package: no libc6 of dpkg's here");
        return;
    };
    let fleet = Fleet::up(1);
    let release = |number: &str, pinned: &str| {
        let rest = format!(
            "run: bin/hello --port ${{PORT}}\nhealth: {{http: /healthz, timeout: 5s}}\n\
             proof: {{pin: [{{package: libc6, version: \"{pinned}\"}}]}}\n"
        );
        releases::hello_with(&fleet.folder(), "hello-v1", number, &[], &rest)
    };
    fleet.deploy(&release("1.0.0", &version), &["--segments", "1"]).expect(0);
    fleet.until_verified();
    fleet.ctl(["nodes", "show", "n1"]).expect(0).says(&format!("of libc6 {version}"));
    fleet
        .deploy(&release("1.1.0", "0-other"), &["--segments", "1", "--deadline", "10s"])
        .expect(3)
        .says("libc.so.6")
        .says("pinned to package libc6 0-other")
        .says(&format!("of package libc6 {version}"));
    fleet.until_verified();
}
