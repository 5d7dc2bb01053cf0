//! Who somebody is: a role and a name, written as a SPIFFE id in the one URI name of a certificate.
//!
//! What an identity may do is not decided here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::error::{Error, excerpt};

/// The longest name of a node, operator, controller or fleet, in bytes. Host names of up to 64 bytes (Linux) and
/// most fully qualified names fit.
const LONGEST_NAME: usize = 128;

/// The beginning of every identity. The trust domain is the same for all fleets: their authorities tell them apart.
const PREFIX: &str = "spiffe://fleet/";

/// What kind of member of the fleet somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The program that keeps what is desired.
    Controller,
    /// A machine with one agent.
    Node,
    /// A person or program allowed to change what is desired.
    Operator,
}

impl Role {
    /// The word for the role, as in the identity.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Node => "node",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "controller" => Ok(Role::Controller),
            "node" => Ok(Role::Node),
            "operator" => Ok(Role::Operator),
            other => Err(Error::Identity { text: excerpt(other) }),
        }
    }
}

/// A role and a name. `Display`, `FromStr` and serde use `spiffe://fleet/<role>/<name>`.
///
/// An `Identity` always holds a name that passed [`check_name`], so it may be joined to a path or printed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    role: Role,
    name: String,
}

impl Identity {
    /// An identity; fails if the name breaks the grammar of [`check_name`].
    pub fn new(role: Role, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        check_name(&name)?;
        Ok(Identity { role, name })
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name, unique within the role.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identity as it stands in a certificate: `spiffe://fleet/<role>/<name>`.
    pub fn to_uri(&self) -> String {
        self.to_string()
    }

    /// Reads the identity of a DER certificate. Refuses a certificate with no URI name or more than one.
    ///
    /// This reads, it does not verify: whether the certificate is to be believed is for the TLS handshake.
    pub fn from_certificate(der: &[u8]) -> Result<Self, Error> {
        Ok(Certificate::from_der(der)?.identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Identity { text: excerpt(text) };
        let (role, name) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).ok_or_else(malformed)?;
        let role = role.parse().map_err(|_| malformed())?;
        Identity::new(role, name)
    }
}

impl TryFrom<String> for Identity {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> String {
        identity.to_uri()
    }
}

/// The grammar of names: 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`.
///
/// Such a name is safe as a file name, as a command-line argument and on a terminal.
pub fn check_name(name: &str) -> Result<(), Error> {
    let refuse = |reason| Err(Error::Name { value: excerpt(name), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > LONGEST_NAME {
        return refuse("it is longer than 128 characters");
    }
    if name.starts_with(['.', '-']) {
        return refuse("it must not start with '.' or '-'");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse("only letters A-Z a-z, digits, '.', '_' and '-' are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_and_read_back() {
        for role in [Role::Controller, Role::Node, Role::Operator] {
            let identity = Identity::new(role, "web-41.example").unwrap();
            assert_eq!(identity.to_uri().parse::<Identity>().unwrap(), identity);
            let json = serde_json::to_string(&identity).unwrap();
            assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
        }
        assert_eq!(Identity::new(Role::Node, "n1").unwrap().to_string(), "spiffe://fleet/node/n1");
    }

    #[test]
    fn what_is_not_an_identity_is_refused() {
        for text in [
            "",
            "spiffe://fleet/node",
            "spiffe://fleet/node/",
            "spiffe://fleet/node/a/b",
            "spiffe://fleet/Node/a",
            "spiffe://fleet/admin/a",
            "spiffe://other/node/a",
            "spiffe://fleet/node/..",
            "spiffe://fleet/node/-rf",
            "spiffe://fleet/node/a b",
            "spiffe://fleet/node/a\n",
            "spiffe://fleet/node/\u{202e}a",
            " spiffe://fleet/node/a",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?} was accepted");
        }
        assert!(Identity::new(Role::Node, "x".repeat(128)).is_ok());
        assert!(Identity::new(Role::Node, "x".repeat(129)).is_err());
    }

    proptest! {
        #[test]
        fn reading_a_text_never_panics_and_round_trips(text in ".{0,200}") {
            if let Ok(identity) = text.parse::<Identity>() {
                prop_assert_eq!(identity.to_uri(), text);
            }
        }
    }
}
