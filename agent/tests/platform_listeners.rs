//! Who listens on a port, told by real processes: each gets a listening socket from the test as its standard input,
//! and the test keeps none.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fleet::ReleaseId;
use fleet_agent::platform::{Listener, Observer, Running, Scope, Supervisor};
use platform_stage::{ByHand, Stage, copy_program};
use tokio::sync::Mutex;

/// Held by each test: what another one forks has copies of this one's sockets until it executes its program.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A program that holds a listening socket.
fn with_socket(socket: TcpListener, command: &mut Command) -> ByHand {
    let process = ByHand(command.stdin(Stdio::from(OwnedFd::from(socket))).spawn().unwrap());
    // exec lets go of the starter before arguments and environment can be read, which is no event to wait for.
    while fs::read(format!("/proc/{}/cmdline", process.0.id())).is_ok_and(|arguments| arguments.is_empty()) {
        std::thread::yield_now();
    }
    process
}

fn bind(address: &str) -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(address).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// One of several sockets on one port.
fn share(address: SocketAddr) -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(8).unwrap().into_std().unwrap()
}

/// The record of a main process that was started by hand.
fn main_process(stage: &Stage, process: &ByHand, release: &ReleaseId) -> Running {
    let pid = process.0.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start_ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    Running { pid, start_ticks, boot_id: stage.observer.boot_id(), release: release.clone() }
}

fn listener(stage: &Stage, running: &Running, address: &SocketAddr) -> Listener {
    stage.supervisor.listener(&stage.place, running, address)
}

fn sleep(seconds: &str) -> Command {
    let mut command = Command::new("/bin/sleep");
    command.arg(seconds).env_clear();
    command
}

#[tokio::test]
async fn a_stranger_on_the_port_is_named() {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let (socket, address) = bind("127.0.0.1:0");
    // The agent itself is a stranger too.
    let own = format!("pid {} ", std::process::id());
    assert!(matches!(listener(&stage, &running, &address), Listener::Stranger(who) if who.starts_with(&own)));
    let stranger = with_socket(socket, &mut sleep("621"));
    let named = format!("pid {} /bin/sleep 621", stranger.0.id());
    assert_eq!(listener(&stage, &running, &address), Listener::Stranger(named));
    // Nobody listens on the other loopback.
    let other = SocketAddr::new("::1".parse().unwrap(), address.port());
    assert_eq!(listener(&stage, &running, &other), Listener::Nobody);
    drop(stranger);
    assert_eq!(listener(&stage, &running, &address), Listener::Nobody);
}

#[tokio::test]
async fn the_service_s_own_processes_are_ours() {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    // The main process itself, on every address of IPv6, which takes IPv4 as well; not every machine has IPv6.
    let has_six = TcpListener::bind("[::]:0").is_ok();
    let (socket, address) = bind(if has_six { "[::]:0" } else { "0.0.0.0:0" });
    let main = with_socket(socket, &mut sleep("622"));
    let running = main_process(&stage, &main, &id);
    assert_eq!(listener(&stage, &running, &address), Listener::Ours);
    if has_six {
        let six = SocketAddr::new("::1".parse().unwrap(), address.port());
        assert_eq!(listener(&stage, &running, &six), Listener::Ours);
    }
    // Its number alone is not enough: another process of that number is a stranger.
    let earlier = Running { start_ticks: running.start_ticks - 1, ..running.clone() };
    assert!(matches!(listener(&stage, &earlier, &address), Listener::Stranger(_)));
    let before = Running { boot_id: "another boot".into(), ..running };
    assert!(matches!(listener(&stage, &before, &address), Listener::Stranger(_)));

    // A child of the main process, which itself has let go of the socket.
    let (socket, address) = bind("127.0.0.1:0");
    let script = "exec 3<&0 </dev/null; sleep 623 <&3 3<&- & echo; exec 3<&-; echo; wait";
    let mut shell = Command::new("/bin/sh");
    let mut main = with_socket(socket, shell.args(["-c", script]).stdout(Stdio::piped()));
    let mut lines = std::io::BufReader::new(main.0.stdout.take().unwrap());
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut lines, &mut String::new()).unwrap();
    }
    let running = main_process(&stage, &main, &id);
    assert_eq!(listener(&stage, &running, &address), Listener::Ours);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid)).unwrap();
    let child = nix::unistd::Pid::from_raw(children.trim().parse().unwrap());
    nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn what_left_the_tree_is_known_by_the_mark_of_this_start() {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let marked = |release: &str, socket: TcpListener| {
        let mut command = sleep("624");
        command.env("FLEET_SERVICE_ROOT", &stage.place.root).env("FLEET_RELEASE", release);
        with_socket(socket, &mut command)
    };
    let (socket, address) = bind("0.0.0.0:0");
    let _worker = marked(id.as_str(), socket);
    assert_eq!(listener(&stage, &running, &address), Listener::Ours);
    // What another release left behind carries the service's mark, but is not what was started.
    let (socket, address) = bind("127.0.0.1:0");
    let _old = marked("r-00000000000f", socket);
    assert!(matches!(listener(&stage, &running, &address), Listener::Stranger(_)));
}

#[tokio::test]
async fn a_stranger_who_shares_the_port_spoils_it() {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let first = share("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let second = share(address);
    let main = with_socket(first, &mut sleep("625"));
    let running = main_process(&stage, &main, &id);
    let stranger = with_socket(second, &mut sleep("626"));
    let named = format!("pid {} /bin/sleep 626", stranger.0.id());
    assert_eq!(listener(&stage, &running, &address), Listener::Stranger(named));
    drop(stranger);
    assert_eq!(listener(&stage, &running, &address), Listener::Ours);
}

#[tokio::test]
async fn what_may_not_be_read_is_said_to_be_unknown() {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    // Whoever may not read a program may not look into its processes either.
    let secret = stage.elsewhere("secret");
    copy_program("/bin/sleep", &secret, "secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o111)).unwrap();
    let (socket, address) = bind("127.0.0.1:0");
    let main = with_socket(socket, Command::new::<&Path>(&secret).arg("627").env_clear());
    let running = main_process(&stage, &main, &id);
    let found = listener(&stage, &running, &address);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(found, Listener::Ours);
        return;
    }
    assert!(matches!(found, Listener::Unknown(reason) if reason.contains(&format!("process {} ", running.pid))));
    // To another service, whose processes can all be read, the same socket is a stranger's.
    let service = stage.start(&id, &["bin/sleep", "600"]).await;
    assert!(matches!(listener(&stage, &service, &address), Listener::Stranger(who) if who.contains("another user")));
}
