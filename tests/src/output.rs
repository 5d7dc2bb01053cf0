//! What a finished command said and how it ended.

use std::process::Command;

use serde_json::Value;

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 + n for signal n, as a shell says it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Output {
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Output {
            command: words(command),
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything it said.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The exit code must be this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// The exit code must not be 0.
    #[track_caller]
    pub fn expect_refusal(self) -> Output {
        assert_ne!(self.code, 0, "{self} must not succeed");
        assert!(!self.stderr.trim().is_empty(), "{self} must say why");
        self
    }

    /// Everything it said must contain `part`, whatever the case.
    #[track_caller]
    pub fn says(self, part: &str) -> Output {
        assert!(self.all().to_lowercase().contains(&part.to_lowercase()), "{self} must say {part:?}");
        self
    }

    /// Nothing it said may contain `part`, whatever the case.
    #[track_caller]
    pub fn never_says(self, part: &str) -> Output {
        assert!(!self.all().to_lowercase().contains(&part.to_lowercase()), "{self} must not say {part:?}");
        self
    }

    /// One clear error: one line that begins with `error`, and no backtrace or panic.
    #[track_caller]
    pub fn one_error(self) -> Output {
        let errors = self.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "{self} must say one error");
        self.never_says("panicked at").never_says("RUST_BACKTRACE")
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{self} did not print JSON: {error}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` (exit {})\n--- stdout\n{}--- stderr\n{}---\n",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// A command line for people.
pub fn words(command: &Command) -> String {
    let program =
        std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(program, |line, word| format!("{line} {}", word.to_string_lossy()))
}

/// The exit code as a shell says it.
pub fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
