//! What one node shall hold for one service. Orders are idempotent: saying one again changes nothing, and an
//! older generation never undoes a newer one. Keeping them on disk is the agent's and the controller's work.

use serde::{Deserialize, Serialize};

use crate::{Digest, Generation, Millis, NodeName, ReleaseId, ServiceName};

/// One node, one service, what it shall hold, and the number of that wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Who shall hold it.
    pub node: NodeName,
    /// The service concerned.
    pub service: ServiceName,
    /// The higher generation wins.
    pub generation: Generation,
    /// What to hold.
    pub hold: Hold,
    /// How long the agent waits, once it holds it, for the controller's confirmation before it goes back to what it
    /// held before; zero: it does not wait.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub confirm: Millis,
}

fn is_zero(span: &Millis) -> bool {
    span.0 == 0
}

/// What a node shall hold of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Hold {
    /// This release, running.
    Release {
        /// The release.
        release: ReleaseId,
        /// Digest of its bundle: what the agent fetches and checks.
        bundle: Digest,
        /// Size of its bundle in bytes, known before the first byte is fetched.
        size: u64,
    },
    /// Nothing: the service is stopped and has no `current` release (going back from a first deployment).
    Nothing,
}

impl Hold {
    /// The release to hold, if any.
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Release { release, .. } => Some(release),
            Self::Nothing => None,
        }
    }
}

/// What an agent does with an order that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// Newer than what is held: save it, then act on it.
    Newer,
    /// The same again: nothing to do.
    Same,
    /// Older than what is held: refused.
    Older,
    /// The same generation with another content: refused loudly, since two controllers must be at work.
    Contradiction,
}

/// Weighs an arriving order against the one held for the same service.
pub fn receive(held: Option<&Order>, arriving: &Order) -> Reception {
    match held {
        None => Reception::Newer,
        Some(held) if arriving.generation > held.generation => Reception::Newer,
        Some(held) if arriving.generation < held.generation => Reception::Older,
        Some(held) if held.hold == arriving.hold => Reception::Same,
        Some(_) => Reception::Contradiction,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order(generation: u64, hold: Hold) -> Order {
        Order {
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: Generation(generation),
            hold,
            confirm: Millis(0),
        }
    }

    #[test]
    fn an_agent_never_goes_back_a_generation() {
        let release = Hold::Release { release: "r-aaaaaaaaaaaa".parse().unwrap(), bundle: Digest([1; 32]), size: 1 };
        let held = order(5, release.clone());
        assert_eq!(receive(None, &held), Reception::Newer);
        assert_eq!(receive(Some(&held), &order(6, Hold::Nothing)), Reception::Newer);
        assert_eq!(receive(Some(&held), &order(5, release)), Reception::Same);
        assert_eq!(receive(Some(&held), &order(5, Hold::Nothing)), Reception::Contradiction);
        assert_eq!(receive(Some(&held), &order(4, Hold::Nothing)), Reception::Older);
    }
}
