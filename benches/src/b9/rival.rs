//! The honest rival: `inotifywait` on the same files, and `curl` for each event to a server that notes when it came. It
//! knows neither what should be nor processes; that is what it costs to be told that something happened, and no more.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::tampering::now;
use crate::{interrupt, process};

/// How long an event is waited for that may never come.
const LIMIT: Duration = Duration::from_secs(2);
/// Setting up a thousand watches.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

/// What it is made of.
pub const NAME: &str = "inotifywait + curl";

/// The rival at work.
pub struct Rival {
    told: Arc<Mutex<Vec<(i64, String)>>>,
    // Ended with all other descendants; held so that its pipe stays open.
    _watching: Child,
}

impl Rival {
    /// Why it cannot be had, if so.
    pub fn missing() -> Option<String> {
        let lacks: Vec<_> =
            ["inotifywait", "curl", "sh"].into_iter().filter(|name| process::find(name).is_none()).collect();
        (!lacks.is_empty()).then(|| format!("no {} (Debian: inotify-tools, curl)", lacks.join(" and no ")))
    }

    /// Watches a tree.
    ///
    /// # Errors
    /// It does not begin.
    pub fn watch(tree: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let told = Arc::<Mutex<Vec<(i64, String)>>>::default();
        let heard = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if let Some(line) = hear(stream) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push((now(), line));
                }
            }
        });
        let script = format!(
            "inotifywait -m -r -e modify,attrib,create,delete,move --format '%w%f %e' \"$1\" 2>&1 | \
             while IFS= read -r line; do curl -s -o /dev/null -m 5 --data-binary \"$line\" http://127.0.0.1:{port}/; done"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(tree);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let rival = Self { told, _watching: command.spawn().context("cannot start inotifywait")? };
        // Its own words on standard error go the same way as its events.
        if rival.first(0, "Watches established", READY)?.is_none() {
            bail!("inotifywait has not begun within {} s", READY.as_secs());
        }
        Ok(rival)
    }

    /// When it first told of something with this word in it at `since` or later; None if it does not.
    ///
    /// # Errors
    /// This program is asked to stop.
    pub fn told(&self, since: i64, word: &str) -> anyhow::Result<Option<i64>> {
        self.first(since, word, LIMIT)
    }

    fn first(&self, since: i64, word: &str, limit: Duration) -> anyhow::Result<Option<i64>> {
        let until = Instant::now() + limit;
        loop {
            let found = {
                let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                told.iter().find(|(at, line)| *at >= since && line.contains(word)).map(|(at, _)| *at)
            };
            if found.is_some() || Instant::now() >= until {
                return Ok(found);
            }
            interrupt::check()?;
            std::thread::sleep(LOOK);
        }
    }
}

/// The body of one request; it is answered, so that the next event can be sent.
fn hear(mut stream: TcpStream) -> Option<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).ok()?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = |line: &str| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            };
            if body.len() >= head.lines().find_map(length)? {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
                return Some(body.to_owned());
            }
        }
        if read == 0 {
            return None;
        }
    }
}
