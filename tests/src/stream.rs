//! A command that is still running, read line by line: `deploy -o jsonl` and what its events trigger.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::Output;
use crate::output::{code, words};
use crate::wait::PATIENCE;

/// A running command.
pub struct Stream {
    command: String,
    child: Child,
    lines: Receiver<String>,
    said: String,
    errors: Option<JoinHandle<String>>,
}

impl Stream {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Stream {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _cut = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Stream { command: words(command), child, lines, said: String::new(), errors: Some(errors) }
    }

    /// The next line of its standard output, or None when it has closed it.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said += &line;
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let _gone = self.child.kill();
                panic!("`{}` said nothing for {PATIENCE:?}; before that:\n{}", self.command, self.said);
            }
        }
    }

    /// The next event of a `jsonl` stream.
    #[track_caller]
    pub fn event(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(
            serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("`{}` printed a line that is not JSON ({error}): {line}", self.command)),
        )
    }

    /// The next fact of a `jsonl` stream, other events left out.
    #[track_caller]
    pub fn fact(&mut self) -> Option<Value> {
        loop {
            let event = self.event()?;
            if event["type"] == "fact" {
                return Some(event);
            }
        }
    }

    /// Reads on until a fact of this kind.
    #[track_caller]
    pub fn until_fact(&mut self, kind: &str) -> Value {
        loop {
            match self.fact() {
                Some(fact) if fact["fact"] == kind => return fact,
                Some(_) => {}
                None => {
                    let said = self.said.clone();
                    panic!("`{}` ended without the fact {kind}:\n{said}", self.command)
                }
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits for its end; standard output holds everything, read before or not.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        while self.line().is_some() {}
        let status = self.child.wait().unwrap();
        let stderr = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Output { command: self.command.clone(), code: code(status), stdout: std::mem::take(&mut self.said), stderr }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
