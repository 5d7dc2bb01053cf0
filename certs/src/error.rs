//! What can go wrong with identities, certificates and keys, in words for a person.
//!
//! Errors of a connection are in `dial_error`, refusals of a token in `token_record`, errors of files in `files`.

use std::path::PathBuf;

use crate::files::FileError;
use crate::identity::Role;

/// An identity, certificate, request or authority that cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name outside the grammar of names.
    #[error("{value:?} is not a valid name: {reason}")]
    Name {
        /// What was given, cut to 160 characters.
        value: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A text that is not a fleet identity.
    #[error("{text:?} is not a fleet identity: expected spiffe://fleet/<controller|node|operator>/<name>")]
    Identity {
        /// What was given, cut to 160 characters.
        text: String,
    },
    /// A certificate must carry exactly one URI name.
    #[error("the certificate carries {found} URI names, but exactly one identity is required; issue a new certificate")]
    IdentityCount {
        /// How many there were.
        found: usize,
    },
    /// A certificate that cannot be read.
    #[error("the certificate cannot be read: {reason}")]
    Certificate {
        /// What the parser said.
        reason: String,
    },
    /// A certificate with another role than the place it is used in.
    #[error("the certificate belongs to a {found}, but a {wanted} is required here")]
    WrongRole {
        /// The role in the certificate.
        found: Role,
        /// The role that is needed.
        wanted: Role,
    },
    /// A PEM text without what it should hold.
    #[error("no {what} found in the PEM text")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// A certificate request that is refused.
    #[error("the certificate request is refused: {reason}; make a new key and request on the machine that joins")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// A private key that cannot be read.
    #[error("the private key cannot be read")]
    Key(#[source] rcgen::Error),
    /// A certificate and a key that do not belong together.
    #[error("certificate and private key do not belong together; restore the pair from one backup or enrol again")]
    KeyMismatch,
    /// A certificate was asked for with a name or lifetime that is not given out.
    #[error("the certificate cannot be issued: {reason}")]
    Issue {
        /// The rule that is broken.
        reason: String,
    },
    /// There is an authority already, and it is never overwritten.
    #[error(
        "there is an authority at {} already; load it, or choose another directory", .path.display()
    )]
    AuthorityExists {
        /// Its certificate.
        path: PathBuf,
    },
    /// A certificate in the data directory that another authority issued.
    #[error(
        "{} was issued by another authority than this fleet's: restore the directory from one backup, or remove it and a new key is made",
        .path.display()
    )]
    OtherAuthority {
        /// The certificate.
        path: PathBuf,
    },
    /// The authority's own certificate has ended.
    #[error(
        "the authority's certificate has expired (or this machine's clock is wrong); make a new authority and join the nodes again"
    )]
    AuthorityExpired,
    /// The library that builds certificates refused.
    #[error("the certificate could not be built")]
    Build(#[source] rcgen::Error),
    /// rustls refused the material.
    #[error("the TLS configuration could not be built")]
    Tls(#[from] rustls::Error),
    /// The verifier of peers could not be built, for example because the authority's PEM is empty.
    #[error("the verifier of peer certificates could not be built")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The operating system has no randomness to give.
    #[error("the operating system gave no randomness")]
    Random(#[source] getrandom::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Cuts hostile input to a length that may be printed. Debug formatting of the result escapes control characters.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(160).collect()
}
