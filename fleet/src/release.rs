//! A release: a service at a version, with the manifest of its files and how it is run and probed; immutable.
//! The text of `fleet.yaml` is read by `fleetctl`; bundles are packed there and unpacked by the agent.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::{Digest, Millis, ServiceName};

/// The version of the release descriptor's format, `.fleet/release.json` in a bundle.
pub const DESCRIPTOR_FORMAT: u32 = 1;
/// Where the descriptor lies in a bundle; it is the first entry.
pub const DESCRIPTOR_PATH: &str = ".fleet/release.json";
/// The largest descriptor accepted, in bytes: 100,000 entries of about 300 bytes.
pub const LARGEST_DESCRIPTOR: u64 = 32 << 20;

/// What a bundle says of itself: everything an agent needs to put the release in place, run it and probe it.
///
/// It is part of the bundle, so the bundle's digest covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Descriptor {
    /// [`DESCRIPTOR_FORMAT`]; a newer one is refused by name.
    pub format: u32,
    /// The service.
    pub service: ServiceName,
    /// The version label, for people.
    pub version: Version,
    /// Which nodes it is meant for, as label requirements: `role=web`. Empty means every node.
    pub nodes: BTreeMap<String, String>,
    /// How it is run.
    pub run: Run,
    /// How its health is asked for; without it, a running process is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Probe>,
    /// The least evidence accepted as proof.
    pub minimum_grade: Grade,
    /// What files outside the release must be where its processes run or map them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
    /// Its files.
    pub manifest: Manifest,
}

impl Descriptor {
    /// Reads a descriptor from JSON.
    ///
    /// # Errors
    /// A newer format by its number; anything malformed with the reason.
    pub fn from_json(text: &[u8]) -> Result<Self, DescriptorError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(text).map_err(|e| DescriptorError::Malformed(e.to_string()))?;
        if format.format != DESCRIPTOR_FORMAT {
            return Err(DescriptorError::Format { found: format.format });
        }
        serde_json::from_slice(text).map_err(|e| DescriptorError::Malformed(e.to_string()))
    }

    /// The descriptor as JSON, the same bytes for the same value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

/// Why a descriptor could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Made by another version of this software.
    #[error(
        "release descriptor has format {found}, this program knows format {DESCRIPTOR_FORMAT}: upgrade it, or build the release again"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// Not a descriptor.
    #[error("release descriptor is malformed: {0}")]
    Malformed(String),
}

/// The longest version label.
const LONGEST_VERSION: usize = 64;

/// A version label: what people call a release. Identity is the digest, never this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+' | b'~' | b':');
        if text.is_empty() || text.len() > LONGEST_VERSION || !text.bytes().all(plain) {
            return Err(VersionError(text.chars().take(80).flat_map(char::escape_default).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Why a version label was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version: use 1 to 64 letters, digits and . - _ + ~ :")]
pub struct VersionError(String);

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a service is run. `runtime: process`: the agent supervises it itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// Program and arguments, never a shell line. A relative program is looked up in the release, then on PATH.
    /// `${NAME}` is replaced from the environment below and the agent's own service environment.
    pub command: Vec<String>,
    /// Extra environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The user it runs as when the agent is root; without it, the agent's own choice of an unprivileged user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it may take to stop after SIGTERM before it is killed.
    pub stop_timeout: Millis,
}

/// What files outside the release must be wherever the service's processes execute or map them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all = "camelCase", deny_unknown_fields)]
pub enum Pin {
    /// Files by their bytes.
    File {
        /// An absolute path, in which `*` stands for any characters but `/`.
        path: String,
        /// What such a file may be: several while a fleet is being upgraded.
        digests: Vec<Digest>,
    },
    /// Files by the package of the distribution that brought them.
    Package {
        /// Its name, without an architecture.
        package: String,
        /// What may be installed: several while a fleet is being upgraded.
        versions: Vec<String>,
    },
}

/// The most pins of a release; a service maps dozens of files, and pins the few that matter.
pub const MOST_PINS: usize = 64;
/// The most digests or versions of one pin: a fleet that runs more of one library has another problem.
pub const MOST_PINNED: usize = 16;

impl Pin {
    /// Whether it speaks of this path by itself, without asking who brought the file.
    pub fn covers(&self, path: &str) -> bool {
        let Self::File { path: pattern, .. } = self else { return false };
        let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
                (Some(_) | None, Some(_) | None) => return false,
            }
        }
    }
}

/// Whether one part of a path fits: what stands between the stars is found from left to right, the last piece at the end.
fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == part };
    let Some(mut left) = part.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in between.split('*').filter(|piece| !piece.is_empty()) {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

/// How the health of a running service is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// An HTTP URL, or a path that is asked on `127.0.0.1:${PORT}`.
    pub http: String,
    /// The status expected.
    pub status: u16,
    /// Time between two tries.
    pub interval: Millis,
    /// How many good answers in a row make it healthy.
    pub successes: u32,
    /// How long it may take to become healthy after its start.
    pub timeout: Millis,
}

/// How well a piece of evidence supports the claim "this node runs that release", weakest first.
///
/// See the table "Evidence, graded honestly" in the project's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Only the service's own answer says so.
    SelfReport,
    /// Working directory, release marker of the start environment and start time agree.
    Context,
    /// An interpreter whose open files hash to manifest entries.
    OpenFile,
    /// Every executable mapping of every process hashes to a manifest entry.
    Digest,
}

impl Grade {
    /// The word used on the wire, in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfReport => "self-report",
            Self::Context => "context",
            Self::OpenFile => "open-file",
            Self::Digest => "digest",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Grade {
    type Err = GradeError;
    fn from_str(text: &str) -> Result<Self, GradeError> {
        match text {
            "self-report" => Ok(Self::SelfReport),
            "context" => Ok(Self::Context),
            "open-file" => Ok(Self::OpenFile),
            "digest" => Ok(Self::Digest),
            _ => Err(GradeError(text.chars().take(80).collect())),
        }
    }
}

/// Why a grade could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an evidence grade: use digest, open-file, context or self-report")]
pub struct GradeError(String);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pins_are_files_or_packages_and_nothing_between() {
        let digest = Digest([7; 32]);
        let file = format!(r#"{{"path":"/usr/lib/libz.so","digests":["{digest}"]}}"#);
        let package = r#"{"package":"zlib1g","versions":["1.2","1.3"]}"#;
        for (text, pin) in [
            (file.as_str(), Pin::File { path: "/usr/lib/libz.so".into(), digests: vec![digest] }),
            (package, Pin::Package { package: "zlib1g".into(), versions: vec!["1.2".into(), "1.3".into()] }),
        ] {
            assert_eq!(serde_json::from_str::<Pin>(text).unwrap(), pin);
            assert_eq!(serde_json::to_string(&pin).unwrap(), text);
        }
        for wrong in [r#"{"path":"/a"}"#, r#"{"package":"a","versions":[],"path":"/a"}"#, "{}"] {
            assert!(serde_json::from_str::<Pin>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pin_covers_what_its_stars_leave_open_and_no_other_folder() {
        let covers = |pattern: &str, path: &str| Pin::File { path: pattern.into(), digests: Vec::new() }.covers(path);
        assert!(covers("/usr/lib/libc.so.6", "/usr/lib/libc.so.6"));
        assert!(covers("/usr/lib/*/libssl.so.*", "/usr/lib/x86_64-linux-gnu/libssl.so.3"));
        assert!(covers("/usr/lib/*a*b*", "/usr/lib/xaybz") && covers("/opt/*", "/opt/"));
        for (pattern, path) in [
            ("/usr/lib/libc.so.6", "/usr/lib/libc.so.66"),
            ("/usr/lib/*", "/usr/lib/x/libc.so.6"),
            ("/usr/*/libc.so.6", "/usr/libc.so.6"),
            ("/usr/lib/*b*a", "/usr/lib/xab"),
            ("/usr/lib/a*a", "/usr/lib/a"),
        ] {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }
}
