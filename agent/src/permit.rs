//! The start permit: a service starts only while the controller's word for exactly this order is fresh (product: E).
//! Pure. Expiry is measured on the boot clock of this machine, which counts through suspend; no wall clock and no
//! clock of another machine takes part (I10).

use fleet::{Millis, Order};
use serde::{Deserialize, Serialize};

use crate::config::WhenUnreachable;

/// Clock ticks per second of the kernel's interfaces: USER_HZ, 100 on every architecture Linux is built for here.
const TICKS_PER_SECOND: u64 = 100;
/// How long the controller must have been silent before the last permitted release may start without it: longer
/// than any reconnection after a controller's restart.
pub const SILENCE: Millis = Millis::from_secs(30);

/// A point on the boot clock of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// The kernel's boot id.
    pub boot_id: String,
    /// Clock ticks since that boot.
    pub ticks: u64,
}

impl Moment {
    /// This moment, `span` later.
    #[must_use]
    pub fn after(&self, span: Millis) -> Self {
        Self {
            boot_id: self.boot_id.clone(),
            ticks: self.ticks.saturating_add(span.0.saturating_mul(TICKS_PER_SECOND) / 1_000),
        }
    }

    /// How long ago `earlier` was; None if it belongs to another boot.
    pub fn since(&self, earlier: &Self) -> Option<Millis> {
        (self.boot_id == earlier.boot_id)
            .then(|| Millis(self.ticks.saturating_sub(earlier.ticks).saturating_mul(1_000 / TICKS_PER_SECOND)))
    }
}

/// The short-lived right of a service to start at what its order says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit {
    /// The order that it is for, generation and content.
    pub order: Order,
    /// The moment from which on it is worth nothing.
    pub until: Moment,
}

/// What is known of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// It has said in this run of the agent what shall be held, and the link stands.
    Made,
    /// No link since then.
    Lost {
        /// When it was lost, or when the agent started.
        since: Moment,
    },
}

/// Whether a start is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It is.
    Granted,
    /// It is not.
    Refused {
        /// Why, and what would lift the fence.
        reason: String,
    },
}

/// Whether the service may start at what `order` says.
pub fn may_start(
    order: &Order,
    permit: Option<&Permit>,
    contact: &Contact,
    now: &Moment,
    policy: WhenUnreachable,
) -> Permission {
    let refused = |reason: String| Permission::Refused { reason };
    let generation = order.generation;
    let permit = permit.filter(|permit| permit.order == *order);
    if let Some(permit) = permit
        && permit.until.boot_id == now.boot_id
        && now.ticks < permit.until.ticks
    {
        return Permission::Granted;
    }
    match (contact, policy) {
        (Contact::Made, WhenUnreachable::Refuse | WhenUnreachable::LastPermitted) => {
            refused(format!("the permit for order {generation} has expired; the controller's next word renews it"))
        }
        (Contact::Lost { .. }, WhenUnreachable::Refuse) => refused(format!(
            "the controller has not confirmed order {generation}; it may start once the controller is reached \
             (policy: when_controller_unreachable = \"refuse\")"
        )),
        (Contact::Lost { .. }, WhenUnreachable::LastPermitted) if permit.is_none() => refused(format!(
            "the controller has never permitted order {generation}; it may start once the controller is reached"
        )),
        (Contact::Lost { since }, WhenUnreachable::LastPermitted) => match now.since(since) {
            Some(silent) if silent >= SILENCE => Permission::Granted,
            Some(_) | None => refused(format!(
                "the controller has not confirmed order {generation}; after {SILENCE} of silence the last permitted release starts"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::{Generation, Hold};

    fn at(boot: &str, ticks: u64) -> Moment {
        Moment { boot_id: boot.into(), ticks }
    }
    fn order(generation: u64) -> Order {
        Order {
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: Generation(generation),
            hold: Hold::Nothing,
            confirm: Millis(0),
        }
    }

    #[test]
    fn the_table() {
        use WhenUnreachable::{LastPermitted, Refuse};
        let permit =
            |generation| Some(Permit { order: order(generation), until: at("b", 1_000).after(Millis(20_000)) });
        let made = Contact::Made;
        let lost = Contact::Lost { since: at("b", 1_000) };
        let granted = |permit: Option<Permit>, contact: &Contact, now: Moment, policy| {
            may_start(&order(5), permit.as_ref(), contact, &now, policy) == Permission::Granted
        };
        assert!(granted(permit(5), &made, at("b", 2_999), Refuse), "fresh");
        assert!(granted(permit(5), &lost, at("b", 2_999), Refuse), "fresh although the link is lost");
        assert!(!granted(permit(5), &made, at("b", 3_000), Refuse), "expired to the tick");
        assert!(!granted(permit(4), &made, at("b", 2_000), Refuse), "for another order");
        assert!(!granted(None, &made, at("b", 2_000), Refuse), "none");
        assert!(!granted(permit(5), &made, at("c", 2_000), Refuse), "of another boot");
        assert!(!granted(permit(5), &lost, at("b", 9_000), Refuse), "silence permits nothing by default");
        assert!(granted(permit(5), &lost, at("b", 4_000), LastPermitted), "after 30 s of silence");
        assert!(!granted(permit(5), &lost, at("b", 3_999), LastPermitted), "not a tick earlier");
        assert!(!granted(permit(4), &lost, at("b", 9_000), LastPermitted), "only what was permitted");
        assert!(!granted(permit(5), &made, at("b", 9_000), LastPermitted), "a controller that is there is asked");
    }
}
