//! Why a controller could not be reached, in words an operator can act on.
//!
//! Turns what TCP, TLS and tonic say into the few cases that need different answers from a person.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;

/// A connection that did not come about. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is not one.
    #[error("{address:?} is not an address: {reason}; write HOST:PORT, for example controller.example:7443")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Own certificate, key or authority cannot be used.
    #[error("the own identity cannot be used: {reason}")]
    OwnIdentity {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there: refused, no route, unknown host.
    #[error("cannot reach the controller at {address}: {source}; is it running, and is the address right?")]
    Unreachable {
        /// Where.
        address: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// It took too long.
    #[error("the controller at {address} did not answer within {} s; is something between here and there dropping packets?", .after.as_secs())]
    Timeout {
        /// Where.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The certificate which the other side presented is not a controller's of this fleet.
    #[error("the certificate of the controller at {address} is not accepted: {reason}")]
    Certificate {
        /// Where.
        address: String,
        /// Why not, in words.
        reason: String,
        /// What TLS said.
        source: rustls::Error,
    },
    /// The controller does not accept the own certificate.
    #[error("the controller at {address} does not accept this certificate: {reason}")]
    Rejected {
        /// Where.
        address: String,
        /// Why not, in words.
        reason: String,
        /// What TLS said.
        source: rustls::Error,
    },
    /// Something that answers, but not as a controller does; or a connection that broke.
    #[error("the connection to {address} failed: {reason}")]
    Broken {
        /// Where.
        address: String,
        /// What happened.
        reason: String,
    },
}

impl DialError {
    /// Finds the dial error inside another error, for example the `tonic::Status` of a call on a lazy channel.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DialError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // The source of an io::Error is the source of what it holds: what it holds itself must be asked for.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// What an error of a connection that is being made or used means.
    pub(crate) fn from_io(address: &str, error: io::Error) -> Self {
        let address = address.to_owned();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(reason)) => DialError::Certificate {
                address,
                reason: certificate_words(reason),
                source: rustls::Error::InvalidCertificate(reason.clone()),
            },
            Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => DialError::Rejected {
                address,
                reason: rejection_words(*alert).to_owned(),
                source: rustls::Error::AlertReceived(*alert),
            },
            Some(other) => DialError::Broken { address, reason: format!("{other}; is it a fleet controller?") },
            None if is_hang_up(&error) => DialError::Broken {
                address,
                reason: "the other side hung up; it is not a fleet controller, or it is too busy, or it has just \
                         revoked this identity"
                    .to_owned(),
            },
            None => DialError::Unreachable { address, source: Arc::new(error) },
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

fn certificate_words(error: &CertificateError) -> String {
    use CertificateError as C;
    match error {
        C::UnknownIssuer | C::BadSignature => {
            "it was issued by another authority than this fleet's (another fleet, or somebody between here and there)"
                .to_owned()
        }
        C::ExpiredContext { time, not_after } => format!(
            "it expired at {}, and this machine's clock says {}; renew the controller's certificate, or correct the clock",
            utc(not_after.as_secs()),
            utc(time.as_secs())
        ),
        C::Expired => "it has expired by this machine's clock; renew it, or correct the clock".to_owned(),
        C::NotValidYetContext { time, not_before } => format!(
            "it is valid only from {}, and this machine's clock says {}; correct the clock",
            utc(not_before.as_secs()),
            utc(time.as_secs())
        ),
        C::NotValidYet => "it is not valid yet by this machine's clock; correct the clock".to_owned(),
        C::NotValidForNameContext { expected, presented } => format!(
            "it is not for the name {}, but for {}; use one of these, or issue the certificate for that name too",
            expected.to_str(),
            presented.join(", ")
        ),
        C::NotValidForName => "it is for another host name".to_owned(),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "it is not a server's certificate (wrong role): a node's or an operator's cannot stand for the controller"
                .to_owned()
        }
        C::Other(other) => other.to_string(),
        other => other.to_string(),
    }
}

/// Whether the alert is about the certificate we showed.
fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::UnsupportedCertificate
            | A::BadCertificate
            | A::AccessDenied
            | A::DecryptError
            | A::CertificateRequired
    )
}

fn rejection_words(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CertificateRevoked => {
            "it was revoked, or is not on the controller's list of issued certificates; join again with a new token"
        }
        A::CertificateExpired => {
            "it has expired (or is not valid yet) by the controller's clock; compare the clocks, then join again with a new token"
        }
        A::UnknownCA | A::DecryptError => {
            "it was issued by another authority than this fleet's; join this fleet with a new token"
        }
        A::UnsupportedCertificate => {
            "it is not a client's certificate (wrong role): a controller's cannot be used to call a controller"
        }
        A::AccessDenied => "it does not carry exactly one fleet identity; join again with a new token",
        _ => "the controller did not say why; its log does",
    }
}

/// Seconds since 1970 as a date and time in UTC.
fn utc(seconds: u64) -> String {
    let date = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    match date {
        Some(d) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            d.year(),
            u8::from(d.month()),
            d.day(),
            d.hour(),
            d.minute(),
            d.second()
        ),
        None => "a time beyond the year 9999".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustls::pki_types::UnixTime;

    fn words(error: rustls::Error) -> String {
        DialError::from_io("c:7443", io::Error::other(error)).to_string()
    }

    #[test]
    fn expired_names_the_clock() {
        let at = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
        let text =
            words(CertificateError::ExpiredContext { time: at(1_700_000_000), not_after: at(1_600_000_000) }.into());
        assert!(text.contains("c:7443"), "{text}");
        assert!(text.contains("expired at 2020-09-13 12:26:40 UTC"), "{text}");
        assert!(text.contains("this machine's clock says 2023-11-14 22:13:20 UTC"), "{text}");
    }

    #[test]
    fn found_inside_other_errors() {
        let inner = DialError::Broken { address: "c:1".into(), reason: "x".into() };
        let outer = io::Error::other(io::Error::other(inner));
        assert!(matches!(DialError::find(&outer), Some(DialError::Broken { .. })));
        assert!(DialError::find(&io::Error::other("x")).is_none());
    }
}
