//! Whether something was changed since the last deployment, or was so already when that ended: the one is somebody's
//! doing on the node, the other the deployment's unfinished business.

use serde::{Deserialize, Serialize};

use crate::{Generation, Timestamp};

/// When a node was first seen to hold an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldSince {
    /// The order's generation.
    pub generation: Generation,
    /// When it was proven first.
    pub at: Timestamp,
}

/// Whether a finding is younger than the last deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// It began after the node had been proven to hold its last order.
    AfterDeployment,
    /// It was already so, or the node never held that order.
    WithDeployment,
    /// Not known; never taken for the one that is left out.
    Unknown,
}

impl Origin {
    /// The word used on the wire and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterDeployment => "after-deployment",
            Self::WithDeployment => "with-deployment",
            Self::Unknown => "unknown",
        }
    }

    /// Of something that began at `began`, on a node whose newest order has this generation (if it has one) and which
    /// was last seen to hold that of `held`.
    pub fn of(began: Timestamp, ordered: Option<Generation>, held: Option<HeldSince>) -> Self {
        match (ordered, held) {
            (Some(ordered), Some(held)) if held.generation == ordered => {
                if began > held.at {
                    Self::AfterDeployment
                } else {
                    Self::WithDeployment
                }
            }
            // The newest order was never held: what is so now was so when its deployment ended.
            (Some(_), Some(_)) => Self::WithDeployment,
            (Some(_) | None, None) | (None, Some(_)) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_after_the_proof_came_after_the_deployment() {
        let held = HeldSince { generation: Generation(4), at: Timestamp(100) };
        let of = |began, ordered: Option<u64>, held| Origin::of(Timestamp(began), ordered.map(Generation), held);
        assert_eq!(of(101, Some(4), Some(held)), Origin::AfterDeployment);
        assert_eq!(of(100, Some(4), Some(held)), Origin::WithDeployment);
        assert_eq!(of(101, Some(5), Some(held)), Origin::WithDeployment, "the newest order was never held");
        assert_eq!(of(101, Some(4), None), Origin::Unknown, "this controller never saw it held");
        assert_eq!(of(101, None, Some(held)), Origin::Unknown);
    }
}
