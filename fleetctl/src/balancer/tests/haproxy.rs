//! Asks a real HAProxy 2.6 and this balancer the same commands in the same order and compares the answers byte for byte.
//! Runs where `haproxy` is on the PATH; says loudly when it is not.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::api::talk;
use super::world::{TestServer, ask, config, in_time, wait_for_used};
use crate::balancer::Balancer;

/// Commands whose answers must be the same to the last byte.
const SAME: [&str; 47] = [
    "show servers conn",
    "show servers conn shop",
    "show servers conn nope",
    "show servers conn shop extra",
    "show servers state shop",
    "show servers state nope",
    "set server shop/s1 state drain",
    "show servers conn shop",
    "show servers state",
    "set server shop/s2 state drain; show servers conn shop",
    "set server shop/s1 state ready;set server shop/s9 state ready;set server shop/s2 state ready",
    "show servers state",
    "set server shop/s9 state drain",
    "set server nope/s1 state drain",
    "set server nope/s1",
    "set server shop state drain",
    "set server shop/ state drain",
    "set server /s1 state drain",
    "set server shop/s1/x state drain",
    "set server",
    "set server shop/s1",
    "set server shop/s1 state",
    "set server shop/s1 state away",
    "set server shop/s1 state READY",
    "set server shop/s1 state ready extra",
    "  set   server  shop/s1   state   ready  ",
    "set server shop/s1 stat ready",
    "set server shop/s1 weight 25%",
    "show servers state shop",
    "set server shop/s1 weight 0%",
    "set server shop/s1 weight 400%",
    "show servers state shop",
    "set server shop/s1 weight 5",
    "show servers state shop",
    "set server shop/s1 weight 257",
    "set server shop/s1 weight -1",
    "set server shop/s1 weight -5%",
    "set server shop/s1 weight abc",
    "set server shop/s1 weight 25%x",
    "set server shop/s1 weight 25x",
    "set server shop/s1 weight %",
    "set server shop/s1 weight",
    "set server shop/s9 weight 25%",
    "set server shop/s1 weight 100%",
    "show servers state",
    "quit",
    "set server shop/s1 state ready\r",
];

/// Commands of which the first line must be the same: our list of commands is shorter.
const SAME_FIRST_LINE: [&str; 5] = ["", "drain", "set", "show servers", "SET SERVER shop/s1 state drain"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_are_those_of_haproxy() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (TestServer::start("1").await, TestServer::start("1").await);
    let Some(haproxy) = HaProxy::start(&folder, &one, &two).await else { return };
    let balancer = Balancer::start(config(&folder, &[one.address, two.address])).await.unwrap();
    let ours = folder.path().join("admin.sock");
    for command in SAME {
        let line = format!("{command}\n");
        let (theirs, ours) = (talk(&haproxy.socket, line.as_bytes()).await, talk(&ours, line.as_bytes()).await);
        assert_eq!(without_ages(&ours), without_ages(&theirs), "{command:?}");
    }
    for command in SAME_FIRST_LINE {
        let line = format!("{command}\n");
        let (theirs, ours) = (talk(&haproxy.socket, line.as_bytes()).await, talk(&ours, line.as_bytes()).await);
        assert_eq!(ours.lines().next(), theirs.lines().next(), "{command:?}");
        assert_eq!(ours.ends_with("disconnect\n\n"), theirs.ends_with("disconnect\n\n"), "{command:?}");
    }
    for pair in [
        &b"set server shop/s1 state ready\nset server shop/s9 state ready\n"[..],
        b"prompt\nset server shop/s1 state ready\nshow servers conn nope;set server shop/s1 state ready\nquit\n",
    ] {
        assert_eq!(talk(&ours, pair).await, talk(&haproxy.socket, pair).await);
    }
    compare_states_and_columns(&haproxy, &ours).await;
    compare_requests_in_flight(&haproxy, &balancer, &one).await;
}

/// `maint` changes a column about health checks in HAProxy that means nothing here (there are none), so the columns that
/// a driver reads are compared; in `show stat`, the names and places of the first 24.
async fn compare_states_and_columns(haproxy: &HaProxy, ours: &Path) {
    for state in ["maint", "drain", "ready"] {
        let line = format!("set server shop/s1 state {state};show servers state shop\n");
        let (theirs, ours_said) = (talk(&haproxy.socket, line.as_bytes()).await, talk(ours, line.as_bytes()).await);
        assert_eq!(columns(&ours_said, ' ', 0..9), columns(&theirs, ' ', 0..9), "{state}");
        let (theirs, ours_said) = (talk(&haproxy.socket, b"show stat\n").await, talk(ours, b"show stat\n").await);
        assert_eq!(columns(&ours_said, ',', 0..24)[0], columns(&theirs, ',', 0..24)[0]);
        for server in ["s1", "s2"] {
            let row = |text: &str| {
                columns(text, ',', 0..24).into_iter().find(|row| row[0] == "shop" && row[1] == server).unwrap()
            };
            let (theirs, ours_said) = (row(&theirs), row(&ours_said));
            // scur, status, weight, act, bck: what an operator looks at.
            for column in [4, 17, 18, 19, 20] {
                assert_eq!(ours_said[column], theirs[column], "{state} {server} column {column}");
            }
        }
    }
}

/// `used_cur` is 1 at both while a request is at the server, and 0 after it.
async fn compare_requests_in_flight(haproxy: &HaProxy, balancer: &Balancer, one: &TestServer) {
    for (name, frontend) in [("haproxy", haproxy.frontend), ("ours", balancer.address("shop").await.unwrap())] {
        let ask_used = async || match name {
            "haproxy" => columns(&talk(&haproxy.socket, b"show servers conn shop\n").await, ' ', 6..7)[1].clone(),
            _ => columns(&balancer.answer("show servers conn shop").await, ' ', 6..7)[1].clone(),
        };
        let drain_two = b"set server shop/s1 state ready;set server shop/s2 state drain\n";
        match name {
            "haproxy" => assert_eq!(talk(&haproxy.socket, drain_two).await, "\n\n"),
            _ => assert_eq!(
                balancer.answer("set server shop/s1 state ready;set server shop/s2 state drain").await,
                "\n\n"
            ),
        }
        let arrived = one.count();
        let held = tokio::spawn(ask(frontend, "GET /hold", ""));
        in_time(one.requests.clone().wait_for(|count| *count > arrived)).await.unwrap();
        assert_eq!(ask_used().await, ["1"], "{name}");
        one.release.add_permits(1);
        assert!(in_time(held).await.unwrap().ends_with("held"), "{name}");
        in_time(async {
            while ask_used().await != ["0"] {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    wait_for_used(balancer, "shop/s1", 0).await;
}

/// `srv_time_since_last_change` counts seconds at both, but they were not asked in the same second.
fn without_ages(answer: &str) -> String {
    let line = |line: &str| {
        let mut columns: Vec<&str> = line.split(' ').collect();
        if columns.len() == 25 && columns[0] != "#" {
            columns[9] = "AGE";
        }
        columns.join(" ")
    };
    answer.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn columns(text: &str, separator: char, range: std::ops::Range<usize>) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.matches(separator).count() >= range.end - 1);
    rows.map(|line| line.split(separator).map(str::to_owned).collect::<Vec<_>>()[range.clone()].to_vec()).collect()
}

/// A running HAProxy; killed when dropped.
struct HaProxy {
    child: Child,
    socket: std::path::PathBuf,
    frontend: std::net::SocketAddr,
}

impl HaProxy {
    /// `None` where no HAProxy 2.6 is installed.
    async fn start(folder: &TempDir, one: &TestServer, two: &TestServer) -> Option<HaProxy> {
        let version = Command::new("haproxy")
            .arg("-v")
            .output()
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if !version.as_ref().is_some_and(|version| version.contains("version 2.6")) {
            let found =
                version.map_or("none".to_owned(), |version| version.lines().next().unwrap_or_default().to_owned());
            let warning = format!(
                "\n*** SKIPPED: the comparison with HAProxy needs haproxy 2.6 on the PATH, found: {found} (apt-get install haproxy) ***\n"
            );
            // Straight to the terminal: what a passing test prints is not shown.
            let _ = std::io::stderr().write_all(warning.as_bytes());
            return None;
        }
        let socket = folder.path().join("haproxy.sock");
        let frontend = super::world::dead_address().await;
        let text = format!(
            "global\n  nbthread 1\n  stats socket {} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 30s\n\
             frontend f\n  bind {frontend}\n  default_backend shop\nbackend shop\n  balance roundrobin\n  option http-server-close\n  server s1 {} weight 100\n  server s2 {} weight 100\n",
            socket.display(),
            one.address,
            two.address,
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = in_time(async {
            while UnixStream::connect(&socket).is_err() {
                if child.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            true
        })
        .await;
        if !ready {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("haproxy did not start: {said}");
        }
        Some(HaProxy { child, socket, frontend })
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
