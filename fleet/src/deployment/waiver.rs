//! Waivers: named, reasoned, expiring exceptions for one node. A waiver is the only way past a node that does not
//! prove what it runs, and the outcome says that there was one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Why one node need not be proven, who says so, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiver {
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// It covers nothing from this moment on.
    pub until: Timestamp,
}

impl Waiver {
    /// Whether it covers its node at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

impl fmt::Display for Waiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waived by {}: {}", self.by, self.reason)
    }
}
