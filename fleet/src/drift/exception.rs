//! What people said about findings: that one is accepted as it is, or that files of a kind may lie in a release. Both
//! change what is reported, and neither ever proves anything. Who may not be excepted is decided here, and when an
//! acceptance ends; where they are kept is left to the controller.

use serde::{Deserialize, Serialize};

use crate::drift::glob::Glob;
use crate::drift::{Finding, FindingKey, Kind};
use crate::{Digest, ReleaseId, ServiceName, Timestamp};

/// One finding that a person accepts as it is: exactly what was found, in exactly this release, until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    /// Which finding.
    #[serde(flatten)]
    pub key: FindingKey,
    /// The release that the node shall hold: in another one the same path is another file.
    pub release: ReleaseId,
    /// What should be.
    pub expected: String,
    /// What was found and is accepted.
    pub found: String,
    /// The digest of what was found.
    pub content: Option<Digest>,
    /// Who accepts it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// It covers nothing from this moment on.
    pub until: Timestamp,
}

/// Who accepts something, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// Why a finding cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAcceptable {
    /// It may be old code, or nobody knows what it is.
    #[error("a finding of the kind '{0}' cannot be accepted: it may be old code, or not knowing")]
    Kind(Kind),
    /// There is nothing that the acceptance could be bound to: it would cover the next change too.
    #[error("'{0}' cannot be accepted: what lies there has no digest (no regular file, unreadable, or very large)")]
    Unbound(String),
}

impl Kind {
    /// Whether a person may accept a finding of this kind: only a difference of files, which is known exactly.
    pub fn is_acceptable(self) -> bool {
        match self {
            Self::File | Self::Mode | Self::Owner | Self::Missing | Self::Extra | Self::Symlink => true,
            Self::Process
            | Self::OldProcess
            | Self::Version
            | Self::Health
            | Self::Unmanaged
            | Self::Unreachable
            | Self::Stale
            | Self::Agent
            | Self::Port
            | Self::Certificate
            | Self::Clock => false,
        }
    }
}

impl Acceptance {
    /// Accepts a finding as it is now.
    ///
    /// # Errors
    /// Why that may not be.
    pub fn of(finding: &Finding, release: ReleaseId, consent: Consent) -> Result<Self, NotAcceptable> {
        let kind = finding.key.kind;
        if !kind.is_acceptable() {
            return Err(NotAcceptable::Kind(kind));
        }
        if matches!(kind, Kind::File | Kind::Extra) && finding.content.is_none() {
            return Err(NotAcceptable::Unbound(finding.key.what.clone()));
        }
        let Consent { by, reason, at, until } = consent;
        Ok(Self {
            key: finding.key.clone(),
            release,
            expected: finding.expected.clone(),
            found: finding.found.clone(),
            content: finding.content,
            by,
            reason,
            at,
            until,
        })
    }

    /// Whether this finding, on a node that shall hold `release`, is the very thing that was accepted.
    pub fn covers(&self, finding: &Finding, release: Option<&ReleaseId>, now: Timestamp) -> bool {
        now < self.until && self.is_of(finding, release) && self.is_unchanged(finding)
    }

    /// Whether what was accepted has become something else, so that the acceptance is void for good.
    pub fn is_void(&self, finding: &Finding, release: Option<&ReleaseId>) -> bool {
        self.is_of(finding, release) && !self.is_unchanged(finding)
    }

    fn is_of(&self, finding: &Finding, release: Option<&ReleaseId>) -> bool {
        self.key == finding.key && release == Some(&self.release)
    }

    fn is_unchanged(&self, finding: &Finding) -> bool {
        (&self.expected, &self.found, &self.content) == (&finding.expected, &finding.found, &finding.content)
    }
}

/// Files that may lie in a service's releases although no release brought them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IgnoreRule {
    /// The service.
    pub service: ServiceName,
    /// Which files.
    pub glob: Glob,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl IgnoreRule {
    /// Whether it ignores this finding: an extra file of its service. Nothing else is ever ignored.
    pub fn ignores(&self, finding: &Finding) -> bool {
        finding.key.kind == Kind::Extra
            && finding.key.service.as_ref() == Some(&self.service)
            && self.glob.matches(&finding.key.what)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn finding(kind: Kind, found: &str, content: Option<u8>) -> Finding {
        let key = FindingKey {
            node: "n1".parse().unwrap(),
            service: Some("web".parse().unwrap()),
            kind,
            what: "etc/conf".into(),
        };
        Finding { content: content.map(|byte| Digest([byte; 32])), ..Finding::new(key, "a", found) }
    }

    fn consent(until: i64) -> Consent {
        Consent { by: "alice".into(), reason: "OPS-1".into(), at: Timestamp(1), until: Timestamp(until) }
    }

    fn release(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    #[test]
    fn an_acceptance_covers_exactly_what_was_found() {
        let one = release("r-aaaaaaaaaaaa");
        let accepted = finding(Kind::File, "b", Some(1));
        let acceptance = Acceptance::of(&accepted, one.clone(), consent(10)).unwrap();
        assert!(acceptance.covers(&accepted, Some(&one), Timestamp(9)));
        assert!(!acceptance.covers(&accepted, Some(&one), Timestamp(10)), "it has ended");
        let other = release("r-bbbbbbbbbbbb");
        assert!(!acceptance.covers(&accepted, Some(&other), Timestamp(2)), "another release");
        assert!(!acceptance.is_void(&accepted, Some(&other)), "it waits for its release to come back");
        let again = finding(Kind::File, "b", Some(2));
        assert!(!acceptance.covers(&again, Some(&one), Timestamp(2)) && acceptance.is_void(&again, Some(&one)));
        let mode = Finding { key: FindingKey { kind: Kind::Mode, ..again.key.clone() }, ..again };
        assert!(!acceptance.covers(&mode, Some(&one), Timestamp(2)) && !acceptance.is_void(&mode, Some(&one)));
        // Who saw it, and when, is not what was accepted.
        let told = Finding { by: Some("vim".into()), changed: Some(crate::Millis(7)), ..accepted };
        assert!(acceptance.covers(&told, Some(&one), Timestamp(2)));
    }

    #[test]
    fn what_may_be_old_code_or_not_knowing_is_never_accepted() {
        let one = release("r-aaaaaaaaaaaa");
        for kind in Kind::ALL {
            let accepted = Acceptance::of(&finding(kind, "b", Some(1)), one.clone(), consent(10));
            let files =
                matches!(kind, Kind::File | Kind::Mode | Kind::Owner | Kind::Missing | Kind::Extra | Kind::Symlink);
            assert_eq!(accepted.is_ok(), files, "{kind}");
        }
        // An unreadable file, a directory: the next change would be covered too.
        for kind in [Kind::File, Kind::Extra] {
            assert!(Acceptance::of(&finding(kind, "b", None), one.clone(), consent(10)).is_err());
        }
        assert!(Acceptance::of(&finding(Kind::Missing, "nothing", None), one, consent(10)).is_ok());
    }

    #[test]
    fn only_extra_files_are_ignored() {
        let rule = IgnoreRule {
            service: "web".parse().unwrap(),
            glob: "etc/**".parse().unwrap(),
            reason: "caches".into(),
            by: "alice".into(),
            at: Timestamp(1),
        };
        for kind in Kind::ALL {
            assert_eq!(rule.ignores(&finding(kind, "b", None)), kind == Kind::Extra, "{kind}");
        }
        let mut other = finding(Kind::Extra, "b", None);
        other.key.service = Some("db".parse().unwrap());
        assert!(!rule.ignores(&other));
        other.key.service = None;
        assert!(!rule.ignores(&other));
    }
}
