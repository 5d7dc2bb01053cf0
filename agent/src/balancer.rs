//! HAProxy's runtime API over TCP or a unix socket: out of rotation, open connections, back into rotation. An empty
//! line is success, any other answer to a `set` is an error text without a code. That putting back is owed is recorded
//! by `execute` before anything is sent (F50).

use std::time::Duration;

use fleet::Millis;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::config::{BalancerConfig, HaproxyConfig};

/// The longest answer read: `show servers conn` of a large backend.
const LONGEST_ANSWER: u64 = 1 << 20;
/// One command with its answer; HAProxy answers at once or is not there.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the open connections, and between two tries to reach the balancer.
const POLL: Duration = Duration::from_millis(100);

/// This node's server at its HAProxy.
#[derive(Debug, Clone)]
pub struct Haproxy {
    config: HaproxyConfig,
    drain_timeout: Millis,
}

/// Why the balancer did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BalancerError {
    /// It could not be asked.
    #[error("the balancer at {socket} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        socket: String,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error("the balancer at {socket} answered '{answer}' to '{command}'; check backend and server in agent.toml")]
    Refused {
        /// Where.
        socket: String,
        /// What was asked.
        command: String,
        /// Its words.
        answer: String,
    },
}

/// How draining ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// No connection is left.
    Empty,
    /// The time is up; what is left will be cut.
    Left {
        /// Open connections.
        connections: u64,
    },
}

impl Haproxy {
    /// The driver for this configuration.
    pub fn new(config: &BalancerConfig) -> Self {
        Self { config: config.haproxy.clone(), drain_timeout: config.drain_timeout }
    }

    /// Takes the server out of rotation and waits until its connections have ended, at most the drain timeout.
    /// An unreachable balancer is tried again until then. `progress` is told what to show to people.
    ///
    /// # Errors
    /// That it could not be taken out, or that nobody could tell how many connections are left.
    pub async fn drain(&self, progress: &(dyn Fn(String) + Sync)) -> Result<Drained, BalancerError> {
        let deadline = Instant::now() + self.drain_timeout.to_std();
        loop {
            match self.block().await {
                Ok(()) => break,
                Err(error @ BalancerError::Refused { .. }) => return Err(error),
                Err(error) => self.again(deadline, error, progress).await?,
            }
        }
        loop {
            match self.connections().await {
                Ok(0) => return Ok(Drained::Empty),
                Ok(connections) if Instant::now() >= deadline => return Ok(Drained::Left { connections }),
                Ok(connections) => {
                    progress(format!("{connections} connections left"));
                    tokio::time::sleep(POLL).await;
                }
                Err(error @ BalancerError::Refused { .. }) => return Err(error),
                Err(error) => self.again(deadline, error, progress).await?,
            }
        }
    }

    /// Takes the server out of rotation: no new connections.
    ///
    /// # Errors
    /// Why not.
    pub async fn block(&self) -> Result<(), BalancerError> {
        self.set("state drain").await
    }

    /// Puts the server back.
    ///
    /// # Errors
    /// Why not; it is then still owed.
    pub async fn allow(&self) -> Result<(), BalancerError> {
        self.set("state ready").await
    }

    /// Connections that are open to the server now.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub async fn connections(&self) -> Result<u64, BalancerError> {
        let command = format!("show servers conn {}", self.config.backend);
        let answer = self.ask(&command).await?;
        used_cur(&answer, &self.config.backend, &self.config.server).ok_or_else(|| self.refused(command, &answer))
    }

    async fn again(
        &self,
        deadline: Instant,
        error: BalancerError,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<(), BalancerError> {
        if Instant::now() >= deadline {
            return Err(error);
        }
        progress(error.to_string());
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    async fn set(&self, what: &str) -> Result<(), BalancerError> {
        let command = format!("set server {}/{} {what}", self.config.backend, self.config.server);
        let answer = self.ask(&command).await?;
        if answer.trim().is_empty() { Ok(()) } else { Err(self.refused(command, &answer)) }
    }

    async fn ask(&self, command: &str) -> Result<String, BalancerError> {
        let socket = &self.config.socket;
        let conversation = async {
            if socket.starts_with('/') {
                converse(UnixStream::connect(socket).await?, command).await
            } else {
                converse(TcpStream::connect(socket.as_str()).await?, command).await
            }
        };
        let reason = match tokio::time::timeout(COMMAND_TIMEOUT, conversation).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => format!("no answer within {} s", COMMAND_TIMEOUT.as_secs()),
        };
        Err(BalancerError::Unreachable { socket: socket.clone(), reason })
    }

    fn refused(&self, command: String, answer: &str) -> BalancerError {
        let answer = answer.trim().chars().take(200).flat_map(char::escape_default).collect();
        BalancerError::Refused { socket: self.config.socket.clone(), command, answer }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
    if answer.is_empty() {
        // Even success answers an empty line: nothing at all means that it hung up.
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it hung up without an answer"));
    }
    Ok(answer)
}

/// The column `used_cur` of a server in an answer to `show servers conn`; the first line names the columns.
fn used_cur(answer: &str, backend: &str, server: &str) -> Option<u64> {
    let mut lines = answer.lines().map(str::trim).filter(|line| !line.is_empty());
    let header = lines.next()?.strip_prefix('#')?;
    let column = header.split_whitespace().position(|name| name == "used_cur")?;
    let name = format!("{backend}/{server}");
    let row = lines.find(|line| line.split_whitespace().next() == Some(&name))?;
    row.split_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    const HEADER: &str = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[2]";

    fn row(server: &str, used: u64) -> String {
        format!("hello/{server} 3/1 127.0.0.1 18081 - 5000 {used} 9 0 0 0 -1 0 0 0")
    }

    /// Answers each connection's one command with the next prepared answer; says what it was asked.
    async fn scripted(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                heard.lock().unwrap().push(line.trim().to_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (address, asked)
    }

    fn driver(socket: &str, timeout: u64) -> Haproxy {
        let haproxy = HaproxyConfig { socket: socket.into(), backend: "hello".into(), server: "n1".into() };
        Haproxy::new(&BalancerConfig { haproxy, drain_timeout: Millis(timeout) })
    }

    #[tokio::test]
    async fn draining_waits_for_the_last_connection() {
        let rows = |used| format!("{HEADER}\n{}\n{}\n\n", row("n10", 7), row("n1", used));
        let (socket, asked) = scripted(vec!["\n".into(), rows(2), rows(1), rows(0)]).await;
        let told = Mutex::new(Vec::new());
        assert_eq!(
            driver(&socket, 60_000).drain(&|text| told.lock().unwrap().push(text)).await.unwrap(),
            Drained::Empty
        );
        assert_eq!(told.into_inner().unwrap(), ["2 connections left", "1 connections left"]);
        assert_eq!(asked.lock().unwrap()[..2], ["set server hello/n1 state drain", "show servers conn hello"]);
    }

    #[tokio::test]
    async fn connections_that_stay_are_named_when_the_time_is_up() {
        let rows = format!("{HEADER}\n{}\n\n", row("n1", 3));
        let (socket, _) = scripted(vec!["\n".into(), rows]).await;
        assert_eq!(driver(&socket, 0).drain(&|_| {}).await.unwrap(), Drained::Left { connections: 3 });
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_balancers_words() {
        let (socket, asked) =
            scripted(vec!["No such server.\n\n".into(), "\n".into(), "Can't find backend.\n".into()]).await;
        let driver = driver(&socket, 60_000);
        let error = driver.drain(&|_| {}).await.unwrap_err();
        assert!(matches!(&error, BalancerError::Refused { answer, .. } if answer == "No such server."), "{error}");
        driver.allow().await.unwrap();
        assert!(matches!(driver.connections().await, Err(BalancerError::Refused { .. })));
        assert_eq!(asked.lock().unwrap()[1], "set server hello/n1 state ready");
    }

    #[tokio::test]
    async fn an_unreachable_balancer_is_tried_until_the_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap().to_string();
        drop(listener);
        let tries = Mutex::new(0);
        let error = driver(&socket, 250).drain(&|_| *tries.lock().unwrap() += 1).await.unwrap_err();
        assert!(matches!(error, BalancerError::Unreachable { .. }), "{error}");
        assert!(tries.into_inner().unwrap() >= 1);
    }

    #[tokio::test]
    async fn a_balancer_that_hangs_up_has_not_agreed() {
        let (socket, _) = scripted(vec![String::new()]).await;
        assert!(matches!(driver(&socket, 0).allow().await, Err(BalancerError::Unreachable { .. })));
    }

    #[tokio::test]
    async fn a_unix_socket_serves_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 64];
            let n = stream.read(&mut buffer).await.unwrap();
            stream.write_all(b"\n").await.unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        driver(path.to_str().unwrap(), 0).block().await.unwrap();
        assert_eq!(server.await.unwrap(), "set server hello/n1 state drain\n");
    }
}
