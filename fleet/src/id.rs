//! Names and numbers by which things are known: nodes, services, releases, deployments, generations, nonces.
//! Each is its own type with its own grammar, parsed once at the border and trusted inside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The longest name of a node or service: RFC 1123's limit for a host name.
pub const LONGEST_NAME: usize = 253;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} '{text}' is not valid: {rule}")]
pub struct NameError {
    /// What was being read.
    pub kind: &'static str,
    /// What was written, shortened.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

fn refuse(kind: &'static str, text: &str, rule: &'static str) -> NameError {
    NameError { kind, text: text.chars().take(80).flat_map(char::escape_default).collect(), rule }
}

/// Names reach file paths, store keys, certificates and terminals, so the grammar is narrow on purpose.
fn check_name(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > LONGEST_NAME {
        return Err(refuse(kind, text, "it must have 1 to 253 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Err(refuse(kind, text, "use letters, digits, '.', '-' and '_' only"));
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() || text.contains("..") {
        return Err(refuse(kind, text, "it must begin with a letter or digit and have no '..'"));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// One machine of the fleet, by the name its certificate carries.
    NodeName, "node name"
}
name! {
    /// Something that runs on nodes and is deployed as a whole.
    ServiceName, "service name"
}
name! {
    /// A deployment: `d-` and five letters or digits.
    DeploymentId, "deployment id"
}

name! {
    /// A plan: `p-` and six letters or digits.
    PlanId, "plan id"
}

name! {
    /// A repair: `f-` and six letters or digits.
    RepairId, "repair id"
}

/// A release, by the first 12 hexadecimal digits of its bundle's SHA-256: `r-51ab09c4e2f1`.
///
/// The id is a handle for people and paths; every check of content uses the whole [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

impl ReleaseId {
    /// The id of the release whose bundle has this digest.
    pub fn of(bundle: &Digest) -> Self {
        Self(format!("r-{}", &bundle.hex()[..12]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReleaseId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = text.strip_prefix("r-").unwrap_or_default();
        if hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("release id", text, "it is 'r-' and 12 hexadecimal digits"))
        }
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> String {
        id.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The number of a change, drawn from one counter for the fleet. For one service on one node the higher wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A value drawn by the controller for one round of observation; an attestation that carries it was made after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// A nonce of 128 random bits, drawn by the caller.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nonce {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("nonce", text, "it is 32 hexadecimal digits"))
        }
    }
}

impl TryFrom<String> for Nonce {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        nonce.0
    }
}

/// The letters of random ids: no vowels, no look-alikes, so that an id spells no word and reads over the phone.
const ID_LETTERS: &[u8; 28] = b"bcdfghjkmnpqrstvwxz23456789y";

impl DeploymentId {
    /// An id drawn from random bits by the caller (who retries if it is taken).
    pub fn from_random(bits: u64) -> Self {
        Self(random_id("d-", bits))
    }
}

impl PlanId {
    /// An id drawn from random bits by the caller (who retries if it is taken).
    pub fn from_random(bits: u64) -> Self {
        Self(random_id("p-", bits))
    }
}

impl RepairId {
    /// An id drawn from random bits by the caller (who retries if it is taken).
    pub fn from_random(bits: u64) -> Self {
        Self(random_id("f-", bits))
    }
}

fn random_id(prefix: &str, mut bits: u64) -> String {
    let mut text = String::from(prefix);
    for _ in 0..6 {
        text.push(char::from(ID_LETTERS[(bits % 28) as usize]));
        bits /= 28;
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in
            ["", ".", "..", "a/b", "../x", "-rf", ".hidden", "a b", "a\n", "a\u{1b}[31m", "ä", "a..b", &"x".repeat(254)]
        {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
        for good in ["n1", "web-01.example.com", "A_b"] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn release_ids_come_from_digests() {
        let id = ReleaseId::of(&Digest([0xab; 32]));
        assert_eq!(id.as_str(), "r-abababababab");
        assert_eq!(id.as_str().parse::<ReleaseId>().unwrap(), id);
        for bad in ["r-", "r-ABABABABABAB", "x-abababababab", "r-ababababab", "r-../../../../"] {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_ids_are_names() {
        for bits in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = DeploymentId::from_random(bits);
            assert_eq!(id.as_str().len(), 8);
            assert_eq!(id.as_str().parse::<DeploymentId>().unwrap(), id);
        }
    }
}
