//! How deployments end, and the exit code each ending has. The table is in the project's documentation; a
//! threshold never appears in it: thresholds decide when to stop, never that it worked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every expected node is freshly proven to run the release.
    Converged,
    /// As above, but for nodes covered by a valid waiver.
    ConvergedWithWaivers,
    /// It failed, and every expected node is proven back on what it held before.
    RolledBack,
    /// It failed and the fleet is mixed, or some expected node is not proven: a human is needed.
    Unproven,
    /// A person ended it.
    Aborted,
    /// A person put another deployment in its place.
    Superseded,
}

impl Outcome {
    /// The exit code of `fleetctl deploy`, `rollback` and `wait`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Converged => 0,
            Self::RolledBack => 3,
            Self::Unproven => 4,
            Self::Aborted | Self::Superseded => 5,
            Self::ConvergedWithWaivers => 7,
        }
    }

    /// The word used on the wire, in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::ConvergedWithWaivers => "converged-with-waivers",
            Self::RolledBack => "rolled-back",
            Self::Unproven => "unproven",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The exit codes that belong to no outcome; BSD's sysexits.h names most of them.
pub mod exit {
    /// Done, or nothing found.
    pub const OK: u8 = 0;
    /// Failed for a reason that has no code of its own.
    pub const FAILED: u8 = 1;
    /// Differences exist.
    pub const DIFFERENCES: u8 = 2;
    /// Aborted by a person.
    pub const ABORTED: u8 = 5;
    /// `--timeout` ran out; the deployment goes on.
    pub const TIMED_OUT: u8 = 6;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// An input file is wrong.
    pub const DATA: u8 = 65;
    /// The controller cannot be reached.
    pub const UNAVAILABLE: u8 = 69;
    /// Busy, locked, or the plan is stale.
    pub const BUSY: u8 = 75;
    /// Not allowed, or not approved.
    pub const NOT_ALLOWED: u8 = 77;
    /// Local configuration or certificate.
    pub const CONFIG: u8 = 78;
    /// Ctrl-C: detached, the deployment goes on.
    pub const DETACHED: u8 = 130;
}
