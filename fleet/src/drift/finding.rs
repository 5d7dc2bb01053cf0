//! A finding: one point in which a node, or its silence, differs from what it shall hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, Millis, NodeName, ServiceName};

/// What differs. The words are those of the drift report and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file has other content or another type.
    File,
    /// A file has other permission bits.
    Mode,
    /// A file has another owner.
    Owner,
    /// A file is not there.
    Missing,
    /// A file is there that no release brought.
    Extra,
    /// A symbolic link of the release points elsewhere; `current` is a matter of the version.
    Symlink,
    /// A process is missing, or runs code that cannot be proven to be the release's.
    Process,
    /// A process executes an older release.
    OldProcess,
    /// The node holds another release than it shall.
    Version,
    /// The service does not answer its probe.
    Health,
    /// The node is expected and has no agent.
    Unmanaged,
    /// The node has an agent that is not in contact.
    Unreachable,
    /// The node is in contact and has not proven anything lately.
    Stale,
    /// The agent contradicts the controller: it is ahead of it, answers for another, or answers with what is not fresh.
    Agent,
    /// Somebody else listens where the service should.
    Port,
    /// A certificate ends soon, or has ended.
    Certificate,
    /// The clock of the node is certainly wrong.
    Clock,
}

/// What a finding of kind `certificate` is about while the certificate still holds.
pub const ENDS_SOON: &str = "ends soon";
/// What it is about from then on.
pub const HAS_ENDED: &str = "has ended";

impl Kind {
    /// Every kind, in the order of the report.
    pub const ALL: [Kind; 17] = [
        Self::OldProcess,
        Self::Version,
        Self::Process,
        Self::Port,
        Self::Unmanaged,
        Self::Unreachable,
        Self::Stale,
        Self::Agent,
        Self::Health,
        Self::Certificate,
        Self::Clock,
        Self::File,
        Self::Mode,
        Self::Owner,
        Self::Missing,
        Self::Extra,
        Self::Symlink,
    ];

    /// The word used on the wire, in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Symlink => "symlink",
            Self::Process => "process",
            Self::OldProcess => "old-process",
            Self::Version => "version",
            Self::Health => "health",
            Self::Unmanaged => "unmanaged",
            Self::Unreachable => "unreachable",
            Self::Stale => "stale",
            Self::Agent => "agent",
            Self::Port => "port",
            Self::Certificate => "certificate",
            Self::Clock => "clock",
        }
    }

    /// How bad it is: critical is whatever may be old code serving, or not knowing.
    pub fn severity(self) -> Severity {
        match self {
            Self::Process
            | Self::OldProcess
            | Self::Version
            | Self::Health
            | Self::Unmanaged
            | Self::Unreachable
            | Self::Stale
            | Self::Agent
            | Self::Port => Severity::Critical,
            Self::File
            | Self::Mode
            | Self::Owner
            | Self::Missing
            | Self::Extra
            | Self::Symlink
            | Self::Certificate
            | Self::Clock => Severity::Warning,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| KindError(text.chars().take(80).collect()))
    }
}

/// Why a kind could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a kind of finding")]
pub struct KindError(String);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something differs.
    Warning,
    /// Old or unknown code may be serving, or nobody knows what serves.
    Critical,
}

impl Severity {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What makes it the same finding when it is seen again.
    #[serde(flatten)]
    pub key: FindingKey,
    /// What should be, for people.
    pub expected: String,
    /// What is, for people.
    pub found: String,
    /// The digest of the bytes found, of a file that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// Who did it, as far as the node's kernel tells: `bash (pid 123), root via alice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How long before it was seen the file was changed, where its inode tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Millis>,
}

impl Finding {
    /// A finding of which nothing is known but what differs.
    pub fn new(key: FindingKey, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { key, expected: expected.into(), found: found.into(), content: None, by: None, changed: None }
    }
}

/// What makes two findings the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingKey {
    /// The node.
    pub node: NodeName,
    /// The service; None when the whole node is meant.
    pub service: Option<ServiceName>,
    /// What differs.
    pub kind: Kind,
    /// Which file, process or contact differs.
    pub what: String,
}

impl FindingKey {
    /// How bad it is: as bad as its kind, and worse once a certificate has ended.
    pub fn severity(&self) -> Severity {
        match self.kind {
            Kind::Certificate if self.what == HAS_ENDED => Severity::Critical,
            kind => kind.severity(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: expected {}, found {}", self.key.kind, self.key.what, self.expected, self.found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_has_one_word() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("drift".parse::<Kind>().is_err());
    }

    #[test]
    fn a_certificate_that_has_ended_is_worse_than_one_that_will() {
        let key = |what: &str| FindingKey {
            node: "n1".parse().unwrap(),
            service: None,
            kind: Kind::Certificate,
            what: what.into(),
        };
        assert_eq!(key(ENDS_SOON).severity(), Severity::Warning);
        assert_eq!(key(HAS_ENDED).severity(), Severity::Critical);
    }
}
