//! The connection to the controller: identity from files, one attempt or a patient one, and every way it can fail in
//! the terms of [`Failure`].

use std::future::Future;
use std::time::Duration;

use fleet::outcome::exit;
use fleet_certs::{DialError, Dialer};
use fleet_proto::v1::operator_client::OperatorClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::config::Target;
use crate::failure::Failure;

/// How long a call may take that does not wait for nodes.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer accepted: a deployment of 10,000 nodes with a reason each.
const LARGEST_ANSWER: usize = 64 << 20;

/// The operator's side of the wire.
pub type Operator = OperatorClient<Channel>;

/// A controller that can be dialled.
#[derive(Debug, Clone)]
pub struct Controller {
    dialer: Dialer,
    target: Target,
}

impl Controller {
    /// Reads the identity; connects to nothing yet.
    ///
    /// # Errors
    /// 78 if a file cannot be read or does not hold what it should.
    pub fn new(target: Target) -> Result<Self, Failure> {
        use fleet_certs::files::{read, read_private};
        let cannot = |what: &str, path: &std::path::Path| {
            Failure::config(format!("cannot use the {what} {}", path.display()))
                .help("run 'fleetctl login' again, or 'fleetctl dev up' for the fleet on this machine")
        };
        let ca = read(&target.ca).map_err(|e| cannot("authority's certificate", &target.ca).caused_by(&e))?;
        let cert = read(&target.cert).map_err(|e| cannot("certificate", &target.cert).caused_by(&e))?;
        let key = read_private(&target.key).map_err(|e| cannot("key", &target.key).caused_by(&e))?;
        let dialer =
            Dialer::new(&ca, Some((&cert, &key))).map_err(|e| cannot("identity", &target.cert).caused_by(&e))?;
        Ok(Self { dialer, target })
    }

    /// What this is the connection to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// One attempt to connect.
    ///
    /// # Errors
    /// 69 if nobody answers, 77 if we are refused, 78 if the certificates do not fit.
    pub async fn connect(&self) -> Result<Operator, Failure> {
        let channel = self
            .dialer
            .channel(&self.target.controller, &self.target.server_name)
            .await
            .map_err(|e| dial_failure(&e))?;
        Ok(OperatorClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
    }
}

/// A connection that did not come about, in our terms.
pub fn dial_failure(error: &DialError) -> Failure {
    match error {
        DialError::Address { .. } => Failure::usage(error.to_string()),
        DialError::OwnIdentity { .. } | DialError::Certificate { .. } => Failure::config(error.to_string()),
        DialError::Rejected { .. } => Failure::new(exit::NOT_ALLOWED, error.to_string()),
        // Unreachable, Timeout, Broken, and whatever a later version adds.
        _ => Failure::new(exit::UNAVAILABLE, error.to_string()).help("on this machine: 'fleetctl dev status'; elsewhere: 'systemctl status fleet-controller' on the controller's host"),
    }
}

/// Awaits a call, no longer than `within`.
///
/// # Errors
/// What the controller answered, or 69 if it did not.
pub async fn answer<T>(
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status_failure(&status)),
        Err(_) => {
            Err(Failure::new(exit::UNAVAILABLE, format!("the controller did not answer within {} s", within.as_secs())))
        }
    }
}

/// What a call failed with, in our terms; also where the connection broke beneath it.
pub fn status_failure(status: &Status) -> Failure {
    match DialError::find(status) {
        Some(error) => dial_failure(error),
        None if is_transport(status) => {
            Failure::new(exit::UNAVAILABLE, "the connection to the controller broke").because(status.message())
        }
        None => Failure::from_status(status),
    }
}

/// Whether the call may succeed once the controller is back: the connection failed, not the request.
///
/// tonic reports a connection that breaks in the middle of a call as `Unknown` or `Internal` with a source; an answer
/// of the controller has no source.
pub fn is_transport(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => {
            std::error::Error::source(status).is_some()
                || status.metadata().is_empty() && looks_broken(status.message())
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn looks_broken(message: &str) -> bool {
    ["h2 protocol error", "transport error", "connection", "broken pipe", "error reading a body"]
        .iter()
        .any(|part| message.contains(part))
}

/// The pauses between attempts to reach a controller that has gone: soon at first, then every two seconds.
#[derive(Debug)]
pub struct Patience {
    next: Duration,
}

impl Patience {
    /// A restart on the same machine takes tenths of a second; more than every 2 s helps nobody.
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    /// At the beginning.
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Waits, longer each time.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Self::LONGEST);
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_no_answer() {
        assert!(is_transport(&Status::unavailable("x")));
        assert!(is_transport(&Status::unknown("transport error")));
        assert!(is_transport(&Status::internal("h2 protocol error: error reading a body from connection")));
        assert!(!is_transport(&Status::not_found("no such deployment")));
        assert!(!is_transport(&Status::internal("the store is full")));
        assert_eq!(status_failure(&Status::unknown("transport error")).exit, 69);
    }
}
