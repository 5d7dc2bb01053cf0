//! Why a command ends without having done what it was asked: one sentence, its causes, what to do next, and the
//! exit code. Every error of this program becomes one of these before it reaches a person.

use std::fmt::Write as _;

use fleet::outcome::exit;
use tonic::{Code, Status};

use crate::output::text::plain;

/// An error as the person at the terminal sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code of the process.
    pub exit: u8,
    /// What went wrong, without a final full stop.
    pub what: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

impl Failure {
    /// A failure with its exit code; see [`fleet::outcome::exit`].
    pub fn new(exit: u8, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), causes: Vec::new(), help: None }
    }

    /// The command line asks for something that makes no sense (64).
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(exit::USAGE, what)
    }

    /// A file given as input is wrong (65).
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(exit::DATA, what)
    }

    /// Local configuration or a local certificate is wrong (78).
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(exit::CONFIG, what)
    }

    /// Something failed that has no code of its own (1).
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(exit::FAILED, what)
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds an error and everything below it as causes.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Wrappers often repeat what they wrap; saying it once is enough.
            if !self.causes.iter().any(|said| said.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What the controller answered, in our terms.
    ///
    /// The controller sends its own exit code in the metadata `fleet-exit` and its advice in `fleet-help-bin`;
    /// where they are missing the gRPC code decides.
    pub fn from_status(status: &Status) -> Self {
        let sent = status
            .metadata()
            .get("fleet-exit")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<u8>().ok())
            .filter(|&code| code != exit::OK);
        let code = sent.unwrap_or_else(|| by_grpc_code(status));
        let help = status
            .metadata()
            .get_bin("fleet-help-bin")
            .and_then(|v| v.to_bytes().ok())
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
            .filter(|text| !text.is_empty());
        let message = if status.message().is_empty() {
            format!("the controller answered {:?}", status.code())
        } else {
            plain(status.message())
        };
        let mut failure = Self::new(code, message);
        if let Some(source) = std::error::Error::source(status) {
            failure = failure.caused_by(source);
        }
        failure.help = help.map(|text| text.lines().map(plain).collect::<Vec<_>>().join("\n"));
        failure
    }

    /// The lines for standard error, without colour; each ends with a newline.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.what);
        for cause in &self.causes {
            let _ = writeln!(text, "  cause: {}", cause.replace('\n', "\n         "));
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "  help: {}", help.replace('\n', "\n        "));
        }
        text
    }
}

fn by_grpc_code(status: &Status) -> u8 {
    let says_busy = status.message().contains("busy") || status.message().contains("stale");
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => exit::UNAVAILABLE,
        Code::PermissionDenied | Code::Unauthenticated => exit::NOT_ALLOWED,
        Code::InvalidArgument | Code::OutOfRange | Code::DataLoss => exit::DATA,
        Code::FailedPrecondition | Code::Aborted if says_busy => exit::BUSY,
        Code::ResourceExhausted => exit::BUSY,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tonic::metadata::{MetadataMap, MetadataValue};

    #[test]
    fn grpc_codes_have_the_exit_codes_of_the_product() {
        for (status, exit) in [
            (Status::unavailable("no"), 69),
            (Status::permission_denied("no"), 77),
            (Status::unauthenticated("no"), 77),
            (Status::invalid_argument("no"), 65),
            (Status::failed_precondition("busy: alice deploys d-7k2m4"), 75),
            (Status::failed_precondition("no release"), 1),
            (Status::not_found("no"), 1),
        ] {
            assert_eq!(Failure::from_status(&status).exit, exit, "{status:?}");
        }
    }

    #[test]
    fn the_controllers_own_exit_code_and_advice_win() {
        let mut metadata = MetadataMap::new();
        metadata.insert("fleet-exit", MetadataValue::from_static("75"));
        metadata
            .insert_bin("fleet-help-bin", MetadataValue::from_bytes("fleetctl wait d-7k2m4 → then again".as_bytes()));
        let status = Status::with_metadata(Code::FailedPrecondition, "alice deploys d-7k2m4 since 3m", metadata);
        let failure = Failure::from_status(&status);
        assert_eq!(failure.exit, 75);
        assert_eq!(
            failure.to_text(),
            "error: alice deploys d-7k2m4 since 3m\n  help: fleetctl wait d-7k2m4 → then again\n"
        );
    }

    #[test]
    fn an_error_code_of_zero_is_not_believed() {
        let mut metadata = MetadataMap::new();
        metadata.insert("fleet-exit", MetadataValue::from_static("0"));
        assert_eq!(Failure::from_status(&Status::with_metadata(Code::Internal, "no", metadata)).exit, 1);
    }

    #[test]
    fn a_message_from_afar_cannot_move_the_cursor() {
        assert!(!Failure::from_status(&Status::internal("\u{1b}[2Jgone")).to_text().contains('\u{1b}'));
    }
}
