//! A deployment: moving one service's release through the fleet, segment by segment, under gates. It *is* its
//! journal: [`Deployment::apply`] folds history without opinion, [`Deployment::handle`] judges what arrives and
//! says what became true. Orders, wake-up time and the reason for waiting are derived from the state, so that
//! after a crash or a change of controller the driver just asks again.
//!
//! Left to others: journaling (before anything is said), sending, the clock, and comparing evidence with orders
//! ([`crate::drift::compare`]).

mod event;
mod fact;
mod judge;
mod orders;
pub mod plan;
mod spec;
mod state;
mod waiting;

pub use event::{Event, Observation, Seen};
pub use fact::{Cause, Fact};
pub use spec::{AbortMode, Budget, BudgetError, Kind, OnFailure, OnFailureError, Previous, Spec};
pub use state::{Deployment, NodeState, Phase, SegmentState};
pub use waiting::WaitingOn;

#[cfg(test)]
mod tests;
