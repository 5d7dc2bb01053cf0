//! The exit codes that need no fleet, of the real program: scripts and monitoring decide by them.
#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fleet_certs::{Authority, Identity, JoinToken, KeyAndCsr, Role, TokenGrant};

/// The program with a home of its own and nothing inherited that it listens to.
fn fleetctl(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    command.args(arguments).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    fleetctl(home, arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A context with a real identity, for a controller that nobody runs. Port 1 needs root to listen on.
fn context_without_controller(home: &Path) {
    let authority = Authority::create(&home.join("ca"), "test").unwrap();
    let key = KeyAndCsr::generate().unwrap();
    let identity = Identity::new(Role::Operator, "alice").unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let issued = authority.issue(&key.csr_pem, &identity, &[], day, std::time::SystemTime::now()).unwrap();
    let files = fleet_certs::files::IdentityFiles::in_dir(home.join("identity"));
    let pems = fleet_certs::files::IdentityPems {
        ca_pem: authority.ca_pem().to_owned(),
        cert_pem: issued.pem,
        key_pem: key.key_pem,
    };
    files.save(&pems).unwrap();
    let config = format!(
        "current = \"x\"\n[contexts.x]\ncontroller = \"127.0.0.1:1\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        files.ca(),
        files.cert(),
        files.key()
    );
    std::fs::create_dir_all(home.join(".config/fleetctl")).unwrap();
    std::fs::write(home.join(".config/fleetctl/config.toml"), config).unwrap();
}

#[test]
fn a_typo_is_64_and_not_drift_found() {
    let home = tempfile::tempdir().unwrap();
    for line in [&["drfit"][..], &["drift", "--max-age", "soon"], &["deploy", "--segments", "0"], &[]] {
        assert_eq!(run(home.path(), line).status.code(), Some(64), "{line:?}");
    }
}

#[test]
fn without_any_configuration_it_is_78_with_the_way_out() {
    let home = tempfile::tempdir().unwrap();
    let output = run(home.path(), &["status"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("fleetctl dev up"), "{}", stderr(&output));
}

#[test]
fn an_unreachable_controller_is_69_and_drift_says_unknown() {
    let home = tempfile::tempdir().unwrap();
    context_without_controller(home.path());
    for verb in [&["status"][..], &["drift"], &["drift", "--quiet"], &["drift", "--exit-zero"], &["verify"]] {
        let output = run(home.path(), verb);
        assert_eq!(output.status.code(), Some(69), "{verb:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{verb:?} must not write a report");
        assert_eq!(stderr(&output).contains("UNKNOWN"), verb[0] == "drift", "{verb:?}: {}", stderr(&output));
    }
    let nagios = run(home.path(), &["drift", "--format", "nagios"]);
    assert_eq!(nagios.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nagios.stdout).starts_with("FLEET DRIFT UNKNOWN - "));
}

#[test]
fn contexts_are_documents_like_all_others() {
    let home = tempfile::tempdir().unwrap();
    context_without_controller(home.path());
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&run(home.path(), arguments).stdout).unwrap()
    };
    let shown = json(&["context", "show", "-o", "json"]);
    assert_eq!((&shown["kind"], &shown["name"], &shown["current"]), (&"Context".into(), &"x".into(), &true.into()));
    assert!(shown.as_object().unwrap().contains_key("serverName"), "{shown}");
    assert_eq!(json(&["context", "list", "-o", "json"])["items"][0]["controller"], "127.0.0.1:1");
}

/// A token that works once must not be used up by a login that cannot keep what it gets.
#[test]
fn a_login_that_cannot_be_kept_asks_nobody() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::create(&home.path().join("ca"), "test").unwrap();
    let (secret, _) = JoinToken::mint(authority.ca_hash(), TokenGrant::once(Role::Operator, i64::MAX, "test")).unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, secret.reveal()).unwrap();
    // A file where a directory must be: no permission helps against that, also for root.
    std::fs::write(home.path().join(".config"), "").unwrap();
    let output =
        run(home.path(), &["login", "127.0.0.1:1", "--name", "alice", "--token-file", token.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78), "and not 69: nobody was dialled; {}", stderr(&output));
}

/// Nothing that is typed makes it panic, and nothing that makes no sense reads as an answer.
#[test]
fn hostile_words_are_usage() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let home = tempfile::tempdir().unwrap();
    context_without_controller(home.path());
    let lines: [&[&[u8]]; 9] = [
        &[b"drift", b"n\xff1"],
        &[b"deploy", b"\xff\xfe"],
        &[b"--controller", b"", b"status"],
        &[b"drift", b""],
        &[b"drift", b"-s", b""],
        &[b"--timeout", b"18446744073709551615ms", b"verify"],
        &[b"history", b"-n", b"4294967296"],
        &[b"drift", b"-w", b"1e999"],
        &[b"deploy", b"--segments", b"1,,2"],
    ];
    for line in lines {
        let mut command = fleetctl(home.path(), &[]);
        let output = command.args(line.iter().map(|word| OsStr::from_bytes(word))).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{line:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("error: ") && output.stdout.is_empty(), "{line:?}");
    }
}

#[test]
fn removing_a_node_needs_yes_when_nobody_can_be_asked() {
    let home = tempfile::tempdir().unwrap();
    context_without_controller(home.path());
    let output = run(home.path(), &["nodes", "remove", "web-12"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("fleetctl nodes remove web-12 --yes"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = tempfile::tempdir().unwrap();
    let mut child =
        fleetctl(home.path(), &["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before anything is read: the script is larger than a pipe's buffer.
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = child.wait().unwrap().code();
    assert_eq!((code, said.as_str()), (Some(141), ""));
}

#[test]
fn ascii_is_kept_to_where_only_ascii_can_be_shown() {
    let home = tempfile::tempdir().unwrap();
    let output = fleetctl(home.path(), &["context", "list"]).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_ascii());
}
