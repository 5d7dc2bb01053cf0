//! The example service as a process: started, asked over real sockets, stopped by signals.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const V1: &str = env!("CARGO_BIN_EXE_hello-v1");
const V2: &str = env!("CARGO_BIN_EXE_hello-v2");
const BROKEN: &str = env!("CARGO_BIN_EXE_hello-broken");

/// A started service; killed when dropped.
struct Service {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
}

impl Service {
    fn start(program: &str) -> Service {
        let mut child = Command::new(program)
            .args(["--port", "0"])
            .env("FLEET_NODE", "n1")
            .env("FLEET_RELEASE", "r-51ab09c4e2f1")
            .env_remove("PORT")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").expect("says where it listens").1.parse().unwrap();
        Service { child, stderr, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        Answer::read(&mut BufReader::new(stream)).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn exit_code(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// `None` when the other side closed without an answer.
    fn read(stream: &mut impl BufRead) -> Option<Answer> {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => break,
            }
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let mut body = vec![0; answer.header("Content-Length").parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

#[test]
fn every_response_says_version_release_and_node() {
    for (program, version) in [(V1, "1.0.0"), (V2, "2.0.0")] {
        let service = Service::start(program);
        let healthz = service.get("/healthz");
        assert_eq!(healthz.status, 200);
        assert_eq!(healthz.body, format!(r#"{{"ok":true,"version":"{version}"}}"#));
        let root = service.get("/");
        assert_eq!(root.status, 200);
        let pid = service.child.id();
        assert_eq!(root.body, format!("hello {version} from node n1, release r-51ab09c4e2f1, pid {pid}\n"));
        for answer in [healthz, root, service.get("/nowhere"), service.get("/slow?ms=1")] {
            assert_eq!(answer.header("X-Version"), version);
            assert_eq!(answer.header("X-Release"), "r-51ab09c4e2f1");
            assert_eq!(answer.header("X-Node"), "n1");
        }
    }
}

#[test]
fn the_versions_are_different_executables() {
    let files: Vec<Vec<u8>> = [V1, V2, BROKEN].iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(files[0] != files[1] && files[1] != files[2] && files[0] != files[2]);
}

#[test]
fn the_broken_version_starts_and_is_never_healthy() {
    let service = Service::start(BROKEN);
    let healthz = service.get("/healthz");
    assert_eq!((healthz.status, healthz.header("X-Version")), (503, "3.0.0"));
    assert!(healthz.body.contains(r#""ok":false"#) && healthz.body.contains("reason"), "{}", healthz.body);
    assert_eq!(service.get("/").status, 500);
}

#[test]
fn a_connection_is_used_again_and_requests_may_be_sent_ahead() {
    let service = Service::start(V1);
    let stream = service.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for _ in 0..3 {
        write!(writer, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answer = Answer::read(&mut reader).unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (200, "keep-alive"));
    }
    write!(writer, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(Answer::read(&mut reader).unwrap().body.starts_with("{\"ok\":true"));
    assert!(Answer::read(&mut reader).unwrap().body.starts_with("hello 1.0.0"));
    assert!(Answer::read(&mut reader).is_none(), "closed as asked");
}

#[test]
fn bad_requests_get_one_clear_answer_and_a_closed_connection() {
    let service = Service::start(V1);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(9000));
    for (bytes, status) in [
        (long.as_str(), 431),
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
    ] {
        let mut stream = service.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let answer = Answer::read(&mut reader).unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (status, "close"), "{bytes:.20}");
        assert!(Answer::read(&mut reader).is_none());
    }
    assert_eq!(service.get("/slow?ms=soon").status, 400);
    assert_eq!(service.get("/").status, 200, "still serving");
}

#[test]
fn sigterm_finishes_the_request_in_flight_and_exits_0() {
    let service = Service::start(V1);
    let mut slow = service.connect();
    write!(slow, "GET /slow?ms=700 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let idle = service.connect();
    // The answer to a later request on another connection shows that the slow one has reached the kernel of the server.
    assert_eq!(service.get("/").status, 200);
    service.signal(Signal::SIGTERM);
    let answer = Answer::read(&mut BufReader::new(slow)).expect("the request in flight is answered");
    assert_eq!((answer.status, answer.header("Connection")), (200, "close"));
    let address = service.address;
    let (code, rest) = service.exit_code();
    assert_eq!(code, Some(0), "{rest}");
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
    drop(idle);
}

#[test]
fn a_port_in_use_is_one_error_and_exit_code_98() {
    let service = Service::start(V1);
    let port = service.address.port();
    let output = Command::new(V2).env("PORT", port.to_string()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(98), "{stderr}");
    assert!(stderr.contains(&format!("port {port} on 127.0.0.1 is in use")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(service.get("/").header("X-Version"), "1.0.0", "the running one is untouched");
}

#[test]
fn no_port_is_a_usage_error() {
    let output = Command::new(V1).env_remove("PORT").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--port"));
}

#[test]
fn a_worker_listens_nowhere_and_ends_on_sigterm() {
    let mut child = Command::new(V1).arg("--worker").stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("worker"), "{line}");
    assert!(child.try_wait().unwrap().is_none(), "it stays");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
