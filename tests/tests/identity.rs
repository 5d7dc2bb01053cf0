//! Who may join and who may call: every wrong token and every wrong certificate is refused over a real connection, each
//! with a message of its own.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use fleet_certs::files::IdentityFiles;
use fleet_tests::{Fleet, Output, until, wire};

/// Tries to join with this token, under this name.
fn join(fleet: &Fleet, token: &str, name: &str) -> Output {
    let (file, state) = (fleet.folder().join(format!("token-{name}")), fleet.folder().join(format!("state-{name}")));
    fs::write(&file, token).unwrap();
    let output = Output::of(
        fleet
            .command("fleet-agent")
            .arg("join")
            .arg(format!("127.0.0.1:{}", fleet.controller_port))
            .arg("--token-file")
            .arg(&file)
            .args(["--name", name, "--label", "role=web", "--state-dir"])
            .arg(&state),
    );
    // Only whoever was let in has a certificate.
    assert_eq!(state.join("identity/cert.pem").exists(), output.code == 0, "{output}");
    output
}

#[test]
fn a_token_is_good_once_and_in_time_and_whole() {
    let fleet = Fleet::up(1);
    let create = |flags: &[&str]| {
        let mut words = vec!["tokens", "create", "-o", "json"];
        words.extend(flags);
        fleet.ctl(words).expect(0).json()["token"].as_str().unwrap().to_owned()
    };
    let good = create(&[]);
    let parts: Vec<_> = good.split('.').collect();
    assert_eq!((parts.len(), parts[0]), (4, "fleet1"), "fleet1.<hash of the authority's key>.<id>.<secret>");

    let mut messages = BTreeSet::new();
    let mut refused = |what: &str, output: Output| {
        let output = output.expect_refusal().one_error();
        for secret in [parts[3], &good] {
            output.clone().never_says(secret);
        }
        let message = output.stderr.lines().filter(|line| line.starts_with("error")).collect::<String>();
        let message = message.replace(char::is_numeric, "");
        assert!(messages.insert(message.clone()), "{what} has the message of another refusal: {message}");
    };
    let last = if parts[3].ends_with('A') { 'B' } else { 'A' };
    let other_secret = format!("{}{last}", &parts[3][..parts[3].len() - 1]);
    refused("a wrong secret", join(&fleet, &[parts[0], parts[1], parts[2], &other_secret].join("."), "late"));
    refused("an unknown id", join(&fleet, &[parts[0], parts[1], "0000000000", parts[3]].join("."), "late"));
    let other_hash = format!("A{}", &parts[1][1..]);
    let other_hash = if other_hash == parts[1] { format!("B{}", &parts[1][1..]) } else { other_hash };
    refused("another fleet's token", join(&fleet, &[parts[0], &other_hash, parts[2], parts[3]].join("."), "late"));
    refused("half a token", join(&fleet, &parts[..3].join("."), "late"));
    refused("the name of somebody else", join(&fleet, &good, "n1"));
    refused("a token for operators", join(&fleet, &create(&["--role", "operator"]), "late"));
    refused("a token for another name", join(&fleet, &create(&["--name", "somebody"]), "late"));

    // None of these tries has used it up, and none has let anybody in.
    let nodes = || fleet.ctl(["nodes", "list", "-o", "name"]).expect(0).stdout;
    assert_eq!(nodes().lines().count(), 1, "{}", nodes());
    join(&fleet, &good, "late").expect(0);
    refused("a used token", join(&fleet, &good, "later"));

    let short = create(&["--ttl", "1s"]);
    // Not before it has expired: the try itself must not be what uses it up.
    let expires = fleet.ctl(["tokens", "create", "--ttl", "1s", "-o", "json"]).expect(0).json()["expiresAt"]
        .as_str()
        .unwrap()
        .to_owned();
    until("the token has expired", || (a_second_ago().as_str() > &expires[..19]).then_some(()));
    refused("an expired token", join(&fleet, &short, "later"));
    assert_eq!(nodes().lines().count(), 2, "{}", nodes());
    // The name of a node that was removed is free again, with another token.
    fleet.ctl(["nodes", "remove", "late", "--yes"]).expect(0);
    assert_eq!(nodes().lines().count(), 1, "{}", nodes());
}

#[test]
fn many_join_at_once() {
    const AT_ONCE: usize = 12;
    let fleet = Fleet::up(1);
    let create = |uses: &str| {
        fleet.ctl(["tokens", "create", "--uses", uses, "-o", "json"]).expect(0).json()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all_join = |token: &str, prefix: &str| -> Vec<Output> {
        std::thread::scope(|scope| {
            let joins: Vec<_> = (0..AT_ONCE)
                .map(|n| {
                    scope.spawn({
                        let fleet = &fleet;
                        move || join(fleet, token, &format!("{prefix}{n}"))
                    })
                })
                .collect();
            joins.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    // One token for all: everybody is let in.
    for output in all_join(&create(&AT_ONCE.to_string()), "a") {
        output.expect(0);
    }
    // One token for one: exactly one is let in.
    let let_in = all_join(&create("1"), "b").into_iter().filter(|output| output.code == 0).count();
    assert_eq!(let_in, 1);
    assert_eq!(fleet.ctl(["nodes", "list", "-o", "name"]).expect(0).stdout.lines().count(), 1 + AT_ONCE + 1);
}

/// The time one second ago in RFC 3339, to the second, in UTC: to be compared as text. What lies before it is over,
/// whatever its fraction of a second.
fn a_second_ago() -> String {
    let output =
        std::process::Command::new("date").args(["-u", "-d", "1 second ago", "+%Y-%m-%dT%H:%M:%S"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_certificate_opens_its_own_door_only() {
    let fleet = Fleet::up(2);
    let port = fleet.controller_port;
    let admin = wire::identity(&fleet.dir.join("controller/admin"));
    let node = wire::identity(&fleet.node_dir("n1").join("state/identity"));
    let controller = wire::identity(&fleet.dir.join("controller/identity"));
    wire::ask_status(port, &admin.ca_pem, Some(&admin)).unwrap();

    let mut messages = BTreeSet::new();
    let mut refused = |what: &str, told: Result<(), String>| {
        let told = told.expect_err(what);
        assert!(told.len() > 20, "{what}: {told}");
        assert!(messages.insert(told.clone()), "{what} has the message of another refusal: {told}");
        told
    };
    let told = refused("a node's certificate on an operator's call", wire::ask_status(port, &node.ca_pem, Some(&node)));
    assert!(told.starts_with("PermissionDenied") && told.contains("n1"), "{told}");
    let told = refused("an operator's certificate on an agent's call", wire::open_session(port, &admin));
    assert!(told.starts_with("PermissionDenied"), "{told}");
    let told = refused("no certificate", wire::ask_status(port, &admin.ca_pem, None));
    assert!(told.contains("certificate"), "{told}");
    let foreign = wire::foreign_operator(&fleet.folder().join("foreign"));
    refused("a foreign authority's certificate", wire::ask_status(port, &admin.ca_pem, Some(&foreign)));
    refused(
        "a controller of another authority, seen from the operator",
        wire::ask_status(port, &foreign.ca_pem, Some(&admin)),
    );
    // A certificate that is good but that the controller has not issued to anybody who may call.
    assert!(
        wire::ask_status(port, &admin.ca_pem, Some(&controller)).is_err(),
        "the controller's own certificate is no operator's"
    );

    // The same through fleetctl, which says it in its own words and codes.
    let place = fleet.folder().join("foreign-files");
    IdentityFiles::in_dir(&place).save(&foreign).unwrap();
    let with = |cert: &std::path::Path| {
        let mut command = fleet.command("fleetctl");
        command
            .args(["status"])
            .env("FLEETCTL_CERT_FILE", cert.join("cert.pem"))
            .env("FLEETCTL_KEY_FILE", cert.join("key.pem"));
        Output::of(&mut command)
    };
    let as_node = with(&fleet.node_dir("n1").join("state/identity")).expect(77).one_error();
    let as_foreign = with(&place).expect_refusal().one_error();
    assert!(matches!(as_foreign.code, 77 | 78), "{as_foreign}");
    assert_ne!(as_node.stderr, as_foreign.stderr);

    // A node that was removed is out at once, with the certificate that was good until now.
    wire::open_session(port, &wire::identity(&fleet.node_dir("n2").join("state/identity"))).unwrap();
    let removed = wire::identity(&fleet.node_dir("n2").join("state/identity"));
    fleet.ctl(["nodes", "remove", "n2", "--yes"]).expect(0);
    refused("a removed node", wire::open_session(port, &removed));
}
